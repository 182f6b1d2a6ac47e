console.log('effect two');
