import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Takes records apart as KCL does: one of base64 a line in, its user records as `number:base64` a line out. */
public class Split {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            byte[] data = Base64.getDecoder().decode(line);
            KinesisClientRecord record = KinesisClientRecord.builder().sequenceNumber("1").partitionKey("key")
                .approximateArrivalTimestamp(Instant.now()).data(ByteBuffer.wrap(data)).build();
            StringBuilder out = new StringBuilder("=");
            try {
                for (KinesisClientRecord one : new AggregatorUtil().deaggregate(List.of(record))) {
                    byte[] bytes = new byte[one.data().remaining()];
                    one.data().get(bytes);
                    out.append(" ").append(one.subSequenceNumber()).append(":");
                    out.append(Base64.getEncoder().encodeToString(bytes));
                }
            } catch (RuntimeException | LinkageError problem) {
                out.append(" !");
            }
            System.out.println(out);
        }
    }
}
