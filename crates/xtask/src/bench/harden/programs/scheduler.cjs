// Tasks that pass packets between queues by priority: classes, method calls, linked lists.
class Packet {
  constructor(next, identity, kind) {
    this.next = next;
    this.identity = identity;
    this.kind = kind;
    this.datum = 0;
    this.payload = [0, 0, 0, 0];
  }

  appendTo(queue) {
    this.next = null;
    if (queue === null) return this;
    let last = queue;
    while (last.next !== null) last = last.next;
    last.next = this;
    return queue;
  }
}

class Task {
  constructor(scheduler, identity, priority, queue) {
    this.scheduler = scheduler;
    this.identity = identity;
    this.priority = priority;
    this.queue = queue;
    this.held = false;
    this.waiting = queue === null;
  }

  get runnable() {
    return !this.held && (!this.waiting || this.queue !== null);
  }

  take() {
    const packet = this.queue;
    if (packet !== null) this.queue = packet.next;
    this.waiting = false;
    return packet;
  }
}

class IdleTask extends Task {
  constructor(scheduler, identity, count) {
    super(scheduler, identity, 0, null);
    this.waiting = false;
    this.seed = 1;
    this.count = count;
  }

  step() {
    this.count -= 1;
    if (this.count === 0) return this.scheduler.hold(this);
    if ((this.seed & 1) === 0) {
      this.seed >>= 1;
      return this.scheduler.release(3);
    }
    this.seed = (this.seed >> 1) ^ 0xd008;
    return this.scheduler.release(4);
  }
}

class WorkerTask extends Task {
  constructor(scheduler, identity, priority, queue) {
    super(scheduler, identity, priority, queue);
    this.destination = 1;
    this.letter = 0;
  }

  step(packet) {
    if (packet === null) return this.scheduler.wait(this);
    this.destination = this.destination === 1 ? 2 : 1;
    packet.identity = this.destination;
    packet.datum = 0;
    for (let index = 0; index < packet.payload.length; index++) {
      this.letter = this.letter >= 26 ? 1 : this.letter + 1;
      packet.payload[index] = this.letter;
    }
    return this.scheduler.send(packet);
  }
}

class HandlerTask extends Task {
  constructor(scheduler, identity, priority, queue) {
    super(scheduler, identity, priority, queue);
    this.work = null;
    this.devices = null;
  }

  step(packet) {
    if (packet !== null) {
      if (packet.kind === 'work') this.work = packet.appendTo(this.work);
      else this.devices = packet.appendTo(this.devices);
    }
    if (this.work !== null) {
      const work = this.work;
      if (work.datum >= work.payload.length) {
        this.work = work.next;
        work.identity = 5;
        return this.scheduler.send(work);
      }
      if (this.devices !== null) {
        const device = this.devices;
        this.devices = device.next;
        device.datum = work.payload[work.datum];
        work.datum += 1;
        device.identity = this.identity + 2;
        return this.scheduler.send(device);
      }
    }
    return this.scheduler.wait(this);
  }
}

class DeviceTask extends Task {
  constructor(scheduler, identity, priority) {
    super(scheduler, identity, priority, null);
    this.pending = null;
  }

  step(packet) {
    if (packet === null) {
      if (this.pending === null) return this.scheduler.wait(this);
      const pending = this.pending;
      this.pending = null;
      pending.identity = this.identity - 2;
      return this.scheduler.send(pending);
    }
    this.pending = packet;
    return this.scheduler.hold(this);
  }
}

class Scheduler {
  constructor() {
    this.tasks = [];
    this.byIdentity = new Map();
    this.sent = 0;
    this.holds = 0;
  }

  add(task) {
    this.tasks.push(task);
    this.tasks.sort((left, right) => right.priority - left.priority);
    this.byIdentity.set(task.identity, task);
  }

  hold(task) {
    this.holds += 1;
    task.held = true;
  }

  wait(task) {
    task.waiting = true;
  }

  release(identity) {
    const task = this.byIdentity.get(identity);
    if (task) task.held = false;
  }

  send(packet) {
    this.sent += 1;
    const task = this.byIdentity.get(packet.identity);
    if (!task) return;
    task.queue = packet.appendTo(task.queue);
    task.waiting = false;
  }

  run(limit) {
    for (let turn = 0; turn < limit; turn++) {
      const task = this.tasks.find(candidate => candidate.runnable);
      if (!task) return turn;
      task.step(task.waiting || task.queue !== null ? task.take() : null);
    }
    return limit;
  }
}

exports.run = function run() {
  const scheduler = new Scheduler();
  scheduler.add(new IdleTask(scheduler, 0, 6000));
  const queue = new Packet(new Packet(null, 5, 'work'), 5, 'work');
  scheduler.add(new WorkerTask(scheduler, 5, 1000, queue));
  scheduler.add(new HandlerTask(scheduler, 1, 2000, devices(3)));
  scheduler.add(new HandlerTask(scheduler, 2, 3000, devices(4)));
  scheduler.add(new DeviceTask(scheduler, 3, 4000));
  scheduler.add(new DeviceTask(scheduler, 4, 5000));
  const turns = scheduler.run(200000);
  return `${turns} ${scheduler.sent} ${scheduler.holds}`;
};

function devices(identity) {
  let queue = null;
  for (let index = 0; index < 3; index++) queue = new Packet(queue, identity, 'device');
  return queue;
}
