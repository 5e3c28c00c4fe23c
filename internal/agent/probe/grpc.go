package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"

	corev1 "k8s.io/api/core/v1"
)

// servingStatus are the names of grpc.health.v1's statuses by number.
var servingStatus = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// grpcCheck calls grpc.health.v1.Health/Check. One unary call of two one-field
// messages does not need the gRPC library: it is an HTTP/2 request whose body
// is a length and a protobuf message.
func grpcCheck(ctx context.Context, a *corev1.GRPCAction, t Target, timeout time.Duration) Result {
	address := net.JoinHostPort(t.Host, strconv.Itoa(int(a.Port)))
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}
	defer transport.CloseIdleConnections()
	var message []byte
	if a.Service != nil && *a.Service != "" {
		message = protowire.AppendTag(message, 1, protowire.BytesType)
		message = protowire.AppendString(message, *a.Service)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://"+address+"/grpc.health.v1.Health/Check", bytes.NewReader(frame(message)))
	if err != nil {
		return Result{Output: err.Error(), Err: err}
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	req.Header.Set("User-Agent", "kube-probe/1.36")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return Result{Output: fmt.Sprintf("timeout: failed to connect service %q within %s: context deadline exceeded", address, timeout)}
		}
		return Result{Output: fmt.Sprintf("error: failed to connect service %q: %v", address, err)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Result{Output: fmt.Sprintf("error: health rpc failed: %v", err)}
	}
	return grpcResult(resp, body)
}

func frame(message []byte) []byte {
	out := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(out[1:], uint32(len(message)))
	return append(out, message...)
}

func grpcResult(resp *http.Response, body []byte) Result {
	code := resp.Trailer.Get("Grpc-Status")
	if code == "" {
		code = resp.Header.Get("Grpc-Status")
	}
	const unimplemented = "12"
	switch {
	case resp.StatusCode != http.StatusOK:
		return Result{Output: fmt.Sprintf("error: health rpc failed: unexpected HTTP status %d", resp.StatusCode)}
	case code == unimplemented:
		return Result{Output: "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"}
	case code != "0":
		message := resp.Trailer.Get("Grpc-Message") + resp.Header.Get("Grpc-Message")
		return Result{Output: fmt.Sprintf("error: health rpc failed: code %s: %s", code, message)}
	}
	status, err := parseStatus(body)
	if err != nil {
		return Result{Output: fmt.Sprintf("error: health rpc failed: %v", err)}
	}
	name := servingStatus[0]
	if status < uint64(len(servingStatus)) {
		name = servingStatus[status]
	}
	if name != "SERVING" {
		return Result{Output: fmt.Sprintf("service unhealthy (responded with %q)", name)}
	}
	return Result{OK: true, Output: "service healthy"}
}

func parseStatus(body []byte) (uint64, error) {
	if len(body) < 5 {
		return 0, errors.New("answer is too short")
	}
	message := body[5:]
	var status uint64
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		message = message[n:]
		if num == 1 && typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(message)
			if n < 0 {
				return 0, protowire.ParseError(n)
			}
			status, message = v, message[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(num, typ, message)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		message = message[n:]
	}
	return status, nil
}
