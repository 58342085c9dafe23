package peer;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Parses a reading straight from its bytes: a flat JSON object, its fields in any order; makes no objects. */
final class ReadingOfBytes extends Reading {
  private static final byte[] PLANT = bytes("plant");
  private static final byte[] METER = bytes("meter");
  private static final byte[] TIME = bytes("ts");
  private static final byte[] VALUE = bytes("value");
  private static final byte[] KIND = bytes("kind");

  private byte[] json;
  private int at;
  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.US_ASCII);
  }

  @Override
  void parse(byte[] payload) {
    json = payload;
    at = 0;
    expect('{');
    do {
      expect('"');
      int nameFrom = at;
      int nameTo = endOfText();
      expect(':');
      skipBlanks();
      field(nameFrom, nameTo);
      skipBlanks();
    } while (json[at++] == ',');
    if (json[at - 1] != '}') {
      throw new IllegalArgumentException("no object");
    }
  }

  private void field(int nameFrom, int nameTo) {
    if (is(nameFrom, nameTo, VALUE)) {
      value = number(3);
    } else if (is(nameFrom, nameTo, TIME)) {
      time = number(0);
    } else {
      expect('"');
      int from = at;
      int to = endOfText();
      if (is(nameFrom, nameTo, PLANT)) {
        plant = Arrays.copyOfRange(json, from, to);
      } else if (is(nameFrom, nameTo, METER)) {
        meter = Arrays.copyOfRange(json, from, to);
      } else if (is(nameFrom, nameTo, KIND)) {
        kind = json[from] == 'e' ? 0 : json[from] == 'w' ? 1 : 2;
      }
    }
  }

  private boolean is(int from, int to, byte[] name) {
    return Arrays.equals(json, from, to, name, 0, name.length);
  }

  /** A number as an integer of so many decimals. */
  private long number(int decimals) {
    boolean negative = json[at] == '-';
    if (negative) {
      at++;
    }
    long found = 0;
    int behindPoint = -1;
    for (; ; at++) {
      byte digit = json[at];
      if (digit >= '0' && digit <= '9') {
        found = found * 10 + digit - '0';
        if (behindPoint >= 0) {
          behindPoint++;
        }
      } else if (digit == '.') {
        behindPoint = 0;
      } else {
        break;
      }
    }
    for (int i = Math.max(behindPoint, 0); i < decimals; i++) {
      found *= 10;
    }
    return negative ? -found : found;
  }

  private int endOfText() {
    int from = at;
    while (json[at] != '"') {
      if (json[at] == '\\') {
        at++;
      }
      at++;
    }
    int to = at++;
    return Math.max(to, from);
  }

  private void skipBlanks() {
    while (json[at] == ' ') {
      at++;
    }
  }

  private void expect(char wanted) {
    skipBlanks();
    if (json[at++] != wanted) {
      throw new IllegalArgumentException("expected " + wanted + " at " + (at - 1));
    }
  }
}
