/** The program of a measured run: any command, which is over when the benchmark is, however that ends. */
import { endWithParent } from './signals.js';

endWithParent();
await import('./main.js');
