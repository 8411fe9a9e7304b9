export { type UntilOptions, until } from '../../deploy/local/until.ts';
