// Bodies that attract each other: floating-point arithmetic on properties.
class Body {
  constructor(position, velocity, mass) {
    [this.x, this.y, this.z] = position;
    [this.vx, this.vy, this.vz] = velocity;
    this.mass = mass;
  }
}

class World {
  constructor(count) {
    this.bodies = [];
    let seed = 42;
    const random = () => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed / 2147483648 - 0.5;
    };
    const three = scale => [random() * scale, random() * scale, random() * scale];
    for (let index = 0; index < count; index++) this.bodies.push(new Body(three(20), three(1), random() + 0.6));
  }

  advance(time) {
    const { bodies } = this;
    for (let left = 0; left < bodies.length; left++) {
      const one = bodies[left];
      for (let right = left + 1; right < bodies.length; right++) {
        const other = bodies[right];
        const dx = one.x - other.x;
        const dy = one.y - other.y;
        const dz = one.z - other.z;
        const squared = dx * dx + dy * dy + dz * dz + 0.01;
        const force = time / (squared * Math.sqrt(squared));
        one.vx -= dx * other.mass * force;
        one.vy -= dy * other.mass * force;
        one.vz -= dz * other.mass * force;
        other.vx += dx * one.mass * force;
        other.vy += dy * one.mass * force;
        other.vz += dz * one.mass * force;
      }
    }
    for (const body of bodies) {
      body.x += time * body.vx;
      body.y += time * body.vy;
      body.z += time * body.vz;
    }
  }

  energy() {
    let sum = 0;
    this.bodies.forEach((body, index) => {
      sum += 0.5 * body.mass * (body.vx ** 2 + body.vy ** 2 + body.vz ** 2);
      for (const other of this.bodies.slice(index + 1)) {
        sum -= (body.mass * other.mass) / Math.hypot(body.x - other.x, body.y - other.y, body.z - other.z, 0.1);
      }
    });
    return sum;
  }
}

exports.run = function run() {
  const world = new World(12);
  for (let step = 0; step < 2500; step++) world.advance(0.001);
  return world.energy().toFixed(9);
};
