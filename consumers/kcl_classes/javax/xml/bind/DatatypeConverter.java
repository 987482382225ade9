package javax.xml.bind;

import com.google.protobuf.InvalidProtocolBufferException;

/**
 * What KCL calls when it cannot take a KPL aggregate apart (a record's key index outside its table), to write the whole
 * aggregate into its log. Java has had no such class since 11: the call ended the subscriber of every shard, again and
 * again. Here it says what KCL says of an aggregate that is no protobuf: the record is handed on whole.
 */
public final class DatatypeConverter {
    private DatatypeConverter() {}

    public static String printBase64Binary(byte[] value) {
        throw DatatypeConverter.<RuntimeException>unchecked(
                new InvalidProtocolBufferException("a record's key index lies outside the table"));
    }

    @SuppressWarnings("unchecked")
    private static <T extends Throwable> T unchecked(Throwable thrown) throws T {
        throw (T) thrown;
    }
}
