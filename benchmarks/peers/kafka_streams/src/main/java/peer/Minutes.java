package peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Sums the increases of a plant's registers per minute and kind, and says each rolling hour when the plant's newest
 * reading is a minute behind its end.
 *
 * <p>A register's state: its last value before the oldest open minute, and its last value in each of four minutes, enough
 * for what may still change. A plant's: its next minute to be closed, and the sums of its last 60 minutes.
 */
final class Minutes implements Processor<byte[], byte[], Bytes, byte[]> {
  static final String REGISTERS = "registers";
  static final String PLANTS = "plants";

  private static final long MINUTE_MS = 60_000;
  private static final long PATIENCE_MS = 60_000;
  private static final int KINDS = 3;
  private static final int HOUR = 60;
  private static final int OPEN = 4;
  private static final long NONE = Long.MIN_VALUE;

  private final LongAdder seen;
  private final Reading reading;
  private final Map<Bytes, Plant> plants = new HashMap<>();
  private ProcessorContext<Bytes, byte[]> context;
  private KeyValueStore<Bytes, byte[]> registerStore;
  private KeyValueStore<Bytes, byte[]> plantStore;

  /** What is kept at hand of a plant; everything that matters is in the stores, too. */
  private static final class Plant {
    final Bytes key;
    final List<Bytes> registers = new ArrayList<>();
    final long[] sums = new long[KINDS * HOUR];
    final long[] total = new long[KINDS];
    long newest = NONE;
    long next = NONE;

    Plant(Bytes key) {
      this.key = key;
    }
  }

  Minutes(LongAdder seen, Reading reading) {
    this.seen = seen;
    this.reading = reading;
  }

  @Override
  public void init(ProcessorContext<Bytes, byte[]> context) {
    this.context = context;
    registerStore = context.getStateStore(REGISTERS);
    plantStore = context.getStateStore(PLANTS);
    try (KeyValueIterator<Bytes, byte[]> all = registerStore.all()) {
      while (all.hasNext()) {
        Bytes key = all.next().key;
        byte[] name = key.get();
        int slash = new String(name, StandardCharsets.UTF_8).indexOf('/');
        plant(Bytes.wrap(Arrays.copyOf(name, slash))).registers.add(key);
      }
    }
  }

  @Override
  public void process(Record<byte[], byte[]> record) {
    reading.parse(record.value());
    Plant plant = plant(Bytes.wrap(reading.plant));
    Bytes key = registerKey();
    long minute = Math.floorDiv(reading.time, MINUTE_MS);
    byte[] state = registerStore.get(key);
    if (state == null) {
      plant.registers.add(key);
    }
    registerStore.put(key, updated(state, minute));
    if (plant.next == NONE || (plant.newest == NONE && minute < plant.next)) {
      plant.next = minute;
    }
    if (reading.time > plant.newest) {
      plant.newest = reading.time;
      while (plant.newest - PATIENCE_MS >= (plant.next + 1) * MINUTE_MS) {
        close(plant, record.timestamp());
      }
    }
    seen.increment();
  }

  private Plant plant(Bytes key) {
    Plant known = plants.get(key);
    if (known == null) {
      known = new Plant(key);
      byte[] saved = plantStore.get(key);
      if (saved != null) {
        ByteBuffer from = ByteBuffer.wrap(saved);
        known.next = from.getLong();
        from.asLongBuffer().get(known.sums).get(known.total);
      }
      plants.put(key, known);
    }
    return known;
  }

  private Bytes registerKey() {
    byte[] key = Arrays.copyOf(reading.plant, reading.plant.length + 1 + reading.meter.length);
    key[reading.plant.length] = '/';
    System.arraycopy(reading.meter, 0, key, reading.plant.length + 1, reading.meter.length);
    return Bytes.wrap(key);
  }

  /** Layout: kind, whether closed, closed value, then minute and last value of four minutes; longs all. */
  private byte[] updated(byte[] state, long minute) {
    ByteBuffer longs = ByteBuffer.allocate(8 * (3 + 2 * OPEN));
    if (state == null) {
      longs.putLong(0, reading.kind).putLong(16, reading.value);
      for (int i = 0; i < OPEN; i++) {
        longs.putLong(24 + 16 * i, NONE);
      }
    } else {
      longs.put(0, state);
      if (longs.getLong(8) == 0) {
        longs.putLong(16, Math.min(longs.getLong(16), reading.value));
      }
    }
    int slot = 24 + 16 * (int) (minute & (OPEN - 1));
    long known = longs.getLong(slot);
    if (known < minute || known == NONE) {
      longs.putLong(slot, minute).putLong(slot + 8, reading.value);
    } else if (known == minute) {
      longs.putLong(slot + 8, Math.max(longs.getLong(slot + 8), reading.value));
    }
    return longs.array();
  }

  /** Books the increases of a plant's oldest open minute, and says the hour that ends with it. */
  private void close(Plant plant, long timestamp) {
    long minute = plant.next++;
    long[] increases = new long[KINDS];
    int slot = 24 + 16 * (int) (minute & (OPEN - 1));
    for (Bytes key : plant.registers) {
      byte[] state = registerStore.get(key);
      ByteBuffer longs = ByteBuffer.wrap(state.clone());
      if (longs.getLong(slot) == minute) {
        long last = longs.getLong(slot + 8);
        increases[(int) longs.getLong(0)] += last - longs.getLong(16);
        longs.putLong(8, 1).putLong(16, last);
        registerStore.put(key, longs.array());
      }
    }
    int place = (int) Math.floorMod(minute, (long) HOUR) * KINDS;
    for (int kind = 0; kind < KINDS; kind++) {
      plant.total[kind] += increases[kind] - plant.sums[place + kind];
      plant.sums[place + kind] = increases[kind];
    }
    save(plant);
    context.forward(new Record<>(plant.key, said(plant, minute), timestamp));
  }

  private void save(Plant plant) {
    ByteBuffer longs = ByteBuffer.allocate(8 * (1 + plant.sums.length + plant.total.length));
    longs.putLong(plant.next);
    longs.asLongBuffer().put(plant.sums).put(plant.total);
    plantStore.put(plant.key, longs.array());
  }

  private static byte[] said(Plant plant, long minute) {
    long electricity = plant.total[0] / 10; // hundredths of a kWh, as the registers show them
    long water = plant.total[1];
    long output = plant.total[2];
    String json =
        "{\"plant\":\"" + new String(plant.key.get(), StandardCharsets.UTF_8) + "\",\"end\":" + (minute + 1) * MINUTE_MS
            + ",\"electricity\":" + electricity + ",\"water\":" + water + ",\"output\":" + output
            + ",\"electricity_per_output\":" + ratio(electricity, output)
            + ",\"water_per_output\":" + ratio(water, output) + "}";
    return json.getBytes(StandardCharsets.UTF_8);
  }

  private static String ratio(long upper, long lower) {
    return lower == 0 ? "null" : Double.toString((double) upper / lower);
  }
}
