package integration

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// h3Transport speaks HTTP/3 to one address, whatever the URL says.
func h3Transport(addr, serverName string, tickets tls.ClientSessionCache) *http3.Transport {
	config := clientTLS(serverName, http3.NextProtoH3)
	config.ClientSessionCache = tickets
	return &http3.Transport{
		TLSClientConfig: config,
		Dial: func(ctx context.Context, _ string, config *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, addr, config, quicConfig)
		},
	}
}

func h3Call(t testing.TB, addr, serverName, method, rawURL, body string, headers ...string) (int, string) {
	t.Helper()
	transport := h3Transport(addr, serverName, nil)
	defer transport.Close()
	status, answer, _ := h3Do(t, transport, method, rawURL, body, headers...)
	return status, answer
}

func h3Do(t testing.TB, transport *http3.Transport, method, rawURL, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, rawURL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("HTTP/3 %s %s: %v", method, rawURL, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

// HTTP/3 is the same gate; early data, which an attacker can replay, is not taken (H21).
func TestHTTP3(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	cookie := strings.TrimPrefix(dana.line(), "Cookie: ")
	r.dump.take()
	for _, test := range []struct {
		target, cookie string
		want           int
	}{
		{"/members/x", cookie, 200}, {"/members/x", "", 401}, {"/admin/x", cookie, 403}, {"/public/x", "", 200},
		{"/public/..%2fadmin", cookie, 400},
	} {
		headers := []string{"Remote-User", "eve", "Accept", "application/json"}
		if test.cookie != "" {
			headers = append(headers, "Cookie", test.cookie)
		}
		status, body := h3Call(t, r.addr(), appHost, http.MethodGet, r.url(appHost, test.target), "", headers...)
		if status != test.want {
			t.Errorf("%s: %d, want %d: %s", test.target, status, test.want, body)
		}
		who := dana
		if test.cookie == "" {
			who = nil
		}
		for _, problem := range broken(row{targets: []string{test.target}, who: who}, &exchange{}, r.dump.take()) {
			t.Error(problem)
		}
	}
	t.Run("SNI is not Host", func(t *testing.T) {
		if status, body := h3Call(t, r.addr(), appHost, http.MethodGet, r.url(wideHost, "/x"), ""); status != http.StatusMisdirectedRequest {
			t.Errorf("answered %d, want 421: %s", status, body)
		}
	})
	t.Run("H21 no early data", func(t *testing.T) {
		tickets := tls.NewLRUClientSessionCache(10)
		first := h3Transport(r.addr(), appHost, tickets)
		if status, _, _ := h3Do(t, first, http.MethodGet, r.url(appHost, "/public/x"), ""); status != 200 {
			t.Fatalf("the first request: %d", status)
		}
		time.Sleep(200 * time.Millisecond) // the session ticket comes after the answer
		first.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		config := clientTLS(appHost, http3.NextProtoH3)
		config.ClientSessionCache = tickets
		conn, err := quic.DialAddrEarly(ctx, r.addr(), config, &quic.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseWithError(0, "")
		select {
		case <-conn.HandshakeComplete():
		case <-ctx.Done():
			t.Fatal("no handshake")
		}
		state := conn.ConnectionState()
		if state.Used0RTT {
			t.Error("early data was taken")
		}
		if state.TLS.Version != tls.VersionTLS13 {
			t.Errorf("TLS version %x", state.TLS.Version)
		}
	})
}
