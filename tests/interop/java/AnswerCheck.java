// Sends requests made by Kafka's own classes and parses the answers with them, to the last byte.
//
// Reads lines {"key", "version", "json"} from standard input, json being the request's JSON form. Writes for each a line
// {"json"} with the response's, or {"error"}. One connection a request, as a new client would.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.RequestUtils;
import org.apache.kafka.common.requests.ResponseHeader;

public class AnswerCheck {
    static final ObjectMapper MAPPER = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ObjectNode result = MAPPER.createObjectNode();
            try {
                result.set("json", exchange(args[0], Integer.parseInt(args[1]), MAPPER.readTree(line)));
            } catch (Exception | AssertionError e) {
                Throwable cause = e instanceof java.lang.reflect.InvocationTargetException ? e.getCause() : e;
                result.put("error", cause.toString());
            }
            System.out.println(MAPPER.writeValueAsString(result));
        }
    }

    static JsonNode exchange(String host, int port, JsonNode line) throws Exception {
        short key = (short) line.get("key").asInt();
        short version = (short) line.get("version").asInt();
        ApiMessageType type = ApiMessageType.fromApiKey(key);
        String name = ApiKeys.forId(key).messageType.newRequest().getClass().getName();
        ApiMessage request = (ApiMessage) Class.forName(name + "JsonConverter")
            .getMethod("read", JsonNode.class, short.class).invoke(null, line.get("json"), version);
        RequestHeader header = new RequestHeader(ApiKeys.forId(key), version, "check", 4711);
        ByteBuffer bytes = RequestUtils.serialize(header.data(), header.headerVersion(), request, version);
        try (Socket socket = new Socket(host, port)) {
            socket.setSoTimeout(20000);
            ByteBuffer frame = ByteBuffer.allocate(4 + bytes.remaining());
            frame.putInt(bytes.remaining()).put(bytes);
            socket.getOutputStream().write(frame.array());
            DataInputStream in = new DataInputStream(socket.getInputStream());
            byte[] answer = new byte[in.readInt()];
            in.readFully(answer);
            ByteBuffer body = ByteBuffer.wrap(answer);
            ResponseHeader responseHeader = ResponseHeader.parse(body, type.responseHeaderVersion(version));
            if (responseHeader.correlationId() != 4711) throw new AssertionError("wrong correlation id");
            ApiMessage response = type.newResponse();
            response.read(new ByteBufferAccessor(body), version);
            if (body.hasRemaining()) throw new AssertionError(body.remaining() + " bytes are left behind the response");
            return (JsonNode) Class.forName(response.getClass().getName() + "JsonConverter")
                .getMethod("write", response.getClass(), short.class, boolean.class).invoke(null, response, version, false);
        }
    }
}
