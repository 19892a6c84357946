/** Style sheets have no values; the bundler puts them into page.css. */
declare module '*.css';
