package peer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/** Parses a reading with Jackson's streaming parser; values as exact decimals. */
final class ReadingOfJackson extends Reading {
  private final JsonFactory factory = new JsonFactory();

  @Override
  void parse(byte[] payload) {
    try (JsonParser parser = factory.createParser(payload)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        parser.nextToken();
        field(name, parser);
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private void field(String name, JsonParser parser) throws IOException {
    switch (name) {
      case "plant" -> plant = parser.getText().getBytes(StandardCharsets.UTF_8);
      case "meter" -> meter = parser.getText().getBytes(StandardCharsets.UTF_8);
      case "ts" -> time = parser.getLongValue();
      case "value" -> value = parser.getDecimalValue().movePointRight(3).longValueExact();
      case "kind" ->
          kind =
              switch (parser.getText()) {
                case "electricity" -> 0;
                case "water" -> 1;
                default -> 2;
              };
      default -> {}
    }
  }
}
