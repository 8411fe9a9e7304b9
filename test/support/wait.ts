export { until } from '../../deploy/local/until.ts';
