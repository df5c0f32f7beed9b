/** Several runs side by side: curves over each other, differences of configuration, results. */
export {};
