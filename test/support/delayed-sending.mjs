/** Loaded before a worker with `--import`: its large frames, which are gradients, leave 50 ms late. */
import { WebSocket } from 'ws';

const DELAY_MS = 50;
const GRADIENT_BYTES = 10_000;

const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (frame, ...rest) {
  if (frame.length < GRADIENT_BYTES) send.call(this, frame, ...rest);
  else setTimeout(() => send.call(this, frame, ...rest), DELAY_MS);
};
