/** Any command, as the child of another one: it is over when its parent is, however that ends. */
import { endWithParent } from './signals.js';

endWithParent();
await import('./main.js');
