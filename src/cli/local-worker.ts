/** The program of a worker that `lockstep train` starts: `lockstep worker`, tied to its parent from the start. */
import { followParent } from './signals.js';

followParent();
await import('./main.js');
