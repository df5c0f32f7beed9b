/** The program of a worker that `lockstep train` starts: `lockstep worker`, tied to its parent from its first moment. */
import { followParent } from './signals.js';

followParent();
await import('./main.js');
