package peer;

/** The fields of one reading of the topic; filled anew for every record. */
abstract class Reading {
  byte[] plant;
  byte[] meter;
  long time;
  /** In thousandths of its unit. */
  long value;
  /** 0 electricity, 1 water, 2 output. */
  int kind;

  abstract void parse(byte[] payload);
}
