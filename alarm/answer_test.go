package alarm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// TestAnswersStayOutOfErrors: whatever a webhook answers, nothing of it reaches a log: many repeat the address they were asked at, which
// is a secret.
func TestAnswersStayOutOfErrors(t *testing.T) {
	for name, answer := range map[string]string{
		"a Location that is no address": "HTTP/1.1 302 Found\r\nLocation: https://x.test/%zzSECRET\r\nContent-Length: 0\r\n\r\n",
		"no HTTP":                       "SECRET SECRET SECRET\r\n\r\n",
		"a status that is none":         "HTTP/1.1 2SECRET OK\r\n\r\n",
		"a header that is none":         "HTTP/1.1 200 OK\r\nSECRET\r\n\r\n",
		"a transfer coding":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: SECRET\r\n\r\n",
		"a length":                      "HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 4096))
					_, _ = conn.Write([]byte(answer))
					_ = conn.Close()
				}
			}()
			var logged bytes.Buffer
			a, err := New(Config{Webhook: "http://" + l.Addr().String() + "/SECRET-PATH", Logger: slog.New(slog.NewJSONHandler(&logged, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			err = a.Deliver(context.Background(), event())
			if !errors.Is(err, ErrDelivery) || strings.Contains(err.Error(), "SECRET") {
				t.Error(err)
			}
		})
	}
}
