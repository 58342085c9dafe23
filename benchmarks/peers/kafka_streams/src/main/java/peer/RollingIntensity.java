package peer;

import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The rolling-intensity job with Kafka Streams' processor API: reads a topic of JSON readings, writes one JSON object a
 * plant and minute, and ends when it has seen as many readings as it was told.
 *
 * <p>Arguments: bootstrap address, application id, input topic, output topic, folder for state, number of readings, and
 * {@code plain} (Jackson's streaming parser; stores as the processor API makes them, each change on its changelog) or {@code
 * tuned} (a parser of its own for these very objects; changes gathered in a cache until the commit).
 */
public final class RollingIntensity {
  private RollingIntensity() {}

  public static void main(String[] arguments) throws InterruptedException {
    long wanted = Long.parseLong(arguments[5]);
    LongAdder seen = new LongAdder();
    CountDownLatch finished = new CountDownLatch(1);
    boolean tuned = arguments[6].equals("tuned");
    Topology topology = topology(arguments[2], arguments[3], seen, tuned);
    try (KafkaStreams streams = new KafkaStreams(topology, settings(arguments))) {
      streams.setUncaughtExceptionHandler(
          error -> {
            error.printStackTrace();
            finished.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
          });
      streams.start();
      while (seen.sum() < wanted && !finished.await(20, TimeUnit.MILLISECONDS)) {}
    }
    System.out.println("{\"readings\": " + seen.sum() + "}");
    System.exit(seen.sum() == wanted ? 0 : 1);
  }

  private static Topology topology(String input, String output, LongAdder seen, boolean tuned) {
    Topology topology = new Topology();
    topology.addSource(
        "readings", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), input);
    topology.addProcessor(
        "minutes", () -> new Minutes(seen, tuned ? new ReadingOfBytes() : new ReadingOfJackson()), "readings");
    topology.addStateStore(store(Minutes.REGISTERS, tuned), "minutes");
    topology.addStateStore(store(Minutes.PLANTS, tuned), "minutes");
    topology.addSink(
        "windows", output, Serdes.Bytes().serializer(), Serdes.ByteArray().serializer(), "minutes");
    return topology;
  }

  private static StoreBuilder<KeyValueStore<Bytes, byte[]>> store(String name, boolean cached) {
    StoreBuilder<KeyValueStore<Bytes, byte[]>> builder =
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), Serdes.Bytes(), Serdes.ByteArray());
    return cached ? builder.withCachingEnabled() : builder;
  }

  private static Properties settings(String[] arguments) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 1 << 18);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 100);
    return settings;
  }
}
