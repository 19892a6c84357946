/** What lockerctl sees of an output that is no terminal. */
export const plainOutput = {
  columns: undefined,
  progressColumns: undefined,
  colour: false,
  utf8: true,
  inputIsTerminal: false,
};
