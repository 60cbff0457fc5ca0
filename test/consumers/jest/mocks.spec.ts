/** Jest replaces the module, or one export of it. */
import { Throttle } from 'headgate';

jest.mock('headgate');

const actual = jest.requireActual<typeof import('headgate')>('headgate');

test('an automatic mock has the classes and their methods', () => {
  expect(jest.isMockFunction(Throttle)).toBe(true);
  const throttle = new Throttle(1);
  jest.mocked(throttle.estimateWait).mockReturnValue(7);
  expect(throttle.estimateWait()).toBe(7);
  expect(jest.isMockFunction(actual.Throttle)).toBe(false);
});

test('a spy replaces one export', () => {
  const Original = actual.Throttle;
  // Jest cannot call a class without `new`, so a spy on a class has an implementation.
  const spy = jest.spyOn(actual, 'Throttle').mockImplementation((...args) => new Original(...args));
  const throttle = new actual.Throttle(10, 2);
  expect(spy).toHaveBeenCalledWith(10, 2);
  expect(throttle.concurrency).toBe(2);
  spy.mockRestore();
  expect(actual.Throttle).toBe(Original);
});
