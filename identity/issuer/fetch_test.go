package issuer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hasty is how long the tests wait for a server that never comes to an end, and long enough for a busy machine to answer.
const hasty = time.Second

// serve starts a server that is the issuer, with one answer for everything.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

func clientOf(t *testing.T, c ClientConfig) *Client {
	t.Helper()
	client, err := NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func answer(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, body)
	}
}

// raw writes an answer byte for byte and ends the connection when more returns.
func raw(head string, more func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, head)
		if more != nil {
			more(conn)
		}
	}
}

// bomb is 256 MiB of zeros, a thousand times smaller.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	block := make([]byte, 1<<20)
	for range 256 {
		if _, err := z.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pour never stops sending.
func pour(conn net.Conn) {
	block := bytes.Repeat([]byte("x"), 16<<10)
	for {
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}

// hold keeps the connection open until the other side gives up.
func hold(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// Requirement 47: answers of any shape end within the limit, cost bounded memory
// and are nothing.
func TestAnswersOfAnyShape(t *testing.T) {
	packed := bomb(t)
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    error
	}{
		"HTML":                     {answer("text/html", "<html></html>"), ErrNotJSON},
		"HTML that says JSON":      {answer("application/json", "<html></html>"), ErrNotJSON},
		"nothing":                  {answer("application/json", ""), ErrNotJSON},
		"null":                     {answer("application/json", "null"), ErrNotJSON},
		"an array":                 {answer("application/json", `[{}]`), ErrNotJSON},
		"two objects":              {answer("application/json", `{}{}`), ErrNotJSON},
		"a member twice":           {answer("application/json", `{"a":1,"a":2}`), ErrNotJSON},
		"a thousand levels":        {answer("application/json", strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat("}", 1000)), ErrNotJSON},
		"not UTF-8":                {answer("application/json", "{\"a\":\"\xff\"}"), ErrNotJSON},
		"UTF-16":                   {answer("application/json", "\xff\xfe{\x00}\x00"), ErrNotJSON},
		"2 MiB":                    {answer("application/json", `{"a":"`+strings.Repeat("x", 2<<20)+`"}`), ErrTooBig},
		"one byte too much":        {answer("application/json", `{"a":"`+strings.Repeat("x", MaxBody-7)+`"}`), ErrTooBig},
		"2 MiB announced":          {raw(ok+"Content-Length: 2097152\r\n\r\n{", hold), ErrTooBig},
		"2 GiB in chunks":          {raw(ok+"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n", pour), ErrTooBig},
		"no end, no length":        {raw(ok+"\r\n", pour), ErrTooBig},
		"a bomb":                   {raw(ok+fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", len(packed)), func(c net.Conn) { _, _ = c.Write(packed); hold(c) }), ErrTooBig},
		"rubbish that says gzip":   {raw(ok+"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", nil), nil},
		"an encoding nobody asked": {raw(ok+"Content-Encoding: br\r\nContent-Length: 4\r\n\r\nabcd", nil), ErrNotJSON},
		"cut in the body":          {raw(ok+"Content-Length: 4096\r\n\r\n{\"issuer\":\"", nil), nil},
		"cut in the header":        {raw("HTTP/1.1 200 OK\r\nContent-Ty", nil), nil},
		"cut before it":            {raw("", nil), nil},
		"not HTTP":                 {raw("SSH-2.0-OpenSSH_9.2\r\n", nil), nil},
		"a header without end":     {raw("HTTP/1.1 200 OK\r\nX: ", pour), nil},
		"many headers":             {raw("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 4000)+"\r\n{}", nil), nil},
		"100 Continue without end": {raw("", func(c net.Conn) { flood(c, "HTTP/1.1 100 Continue\r\n\r\n") }), nil},
		"slow header":              {raw("HTTP/1.1 200 OK\r\nX: ", hold), nil},
		"no answer":                {raw("", hold), nil},
		"slow body":                {raw(ok+"\r\n{\"a\":\"", hold), nil},
		"204":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, StatusError(204)},
		"206":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); _, _ = io.WriteString(w, "{}") }, StatusError(206)},
		"304":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, StatusError(304)},
		"404":                      {http.NotFound, StatusError(404)},
		"500":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = io.WriteString(w, "{}") }, StatusError(500)},
		"a redirect to another port": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, StatusError(302)},
		"a redirect to another name": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:1/", http.StatusTemporaryRedirect)
		}, StatusError(307)},
		"a redirect to another world": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, nil},
		"a redirect to cloud data": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusMovedPermanently)
		}, StatusError(301)},
		"a redirect in a circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, StatusError(302)},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, c.handler)
			client := clientOf(t, ClientConfig{Issuer: server.URL, HTTPClient: &http.Client{Timeout: hasty}})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			got, err := client.JSON(t.Context(), server.URL+"/x", "")
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if err == nil || got != nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Fatalf("got %v, %v; want %v", got, err, c.want)
			}
			if took > 10*hasty {
				t.Errorf("it took %v", took)
			}
			// The body once and while it grows, and what the server itself needs.
			if used := after.TotalAlloc - before.TotalAlloc; used > 24<<20 {
				t.Errorf("it took %d MiB of memory", used>>20)
			}
			for _, text := range []string{"SSH", "passwd", "html"} {
				if strings.Contains(err.Error(), text) {
					t.Errorf("the error repeats what the other side sent: %v", err)
				}
			}
		})
	}
}

func flood(conn net.Conn, text string) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// What is just right is taken: 1 MiB, and a redirect within the origin.
func TestAnswersTaken(t *testing.T) {
	full := `{"a":"` + strings.Repeat("x", MaxBody-8) + `"}`
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/full", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, full)
	})
	client := clientOf(t, ClientConfig{Issuer: server.URL})
	for _, path := range []string{"/full", "/moved"} {
		if got, err := client.JSON(t.Context(), server.URL+path, ""); err != nil || len(got) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A bearer token goes where it was addressed, and its answer has to say what it is.
func TestBearerIsNotSentOn(t *testing.T) {
	var reached atomic.Int32
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/html":
			answer("text/html", "{}")(w, r)
		case "/json":
			answer("application/json; charset=utf-8", "{}")(w, r)
		default:
			reached.Add(1)
		}
	})
	client := clientOf(t, ClientConfig{Issuer: server.URL})
	if _, err := client.JSON(t.Context(), server.URL+"/moved", "t"); !errors.Is(err, StatusError(302)) || reached.Load() != 0 {
		t.Errorf("followed a redirect with a token: %v", err)
	}
	if _, err := client.JSON(t.Context(), server.URL+"/html", "t"); !errors.Is(err, ErrType) {
		t.Errorf("got %v", err)
	}
	if _, err := client.JSON(t.Context(), server.URL+"/json", "t"); err != nil {
		t.Error(err)
	}
}

// What has a body is sent once: neither a redirect nor a connection that ends
// makes a second one of it.
func TestNothingIsSentTwice(t *testing.T) {
	var arrived atomic.Int32
	for name, handler := range map[string]http.HandlerFunc{
		"307": func(w http.ResponseWriter, r *http.Request) {
			arrived.Add(1)
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		},
		"cut": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				arrived.Add(1)
				raw("", nil)(w, r)
				return
			}
			answer("application/json", "{}")(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			arrived.Store(0)
			server := serve(t, handler)
			client := clientOf(t, ClientConfig{Issuer: server.URL})
			if name == "cut" { // over a connection that was good before
				if _, err := client.JSON(t.Context(), server.URL, ""); err != nil {
					t.Fatal(err)
				}
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("code=1"))
			if err != nil {
				t.Fatal(err)
			}
			if response, err := client.Do(r); err == nil {
				response.Body.Close()
			}
			if n := arrived.Load(); n != 1 {
				t.Errorf("it arrived %d times", n)
			}
		})
	}
}

// A transport that would send a body again, as HTTP/2 does, is not given the means.
func TestBodyCannotBeReadAgain(t *testing.T) {
	var again bool
	client := clientOf(t, ClientConfig{Issuer: "https://login.example", HTTPClient: &http.Client{Transport: look(func(r *http.Request) { again = r.GetBody != nil })}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://login.example/token", strings.NewReader("code=1"))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := client.Do(r); err == nil {
		response.Body.Close()
	}
	if r.GetBody == nil || again {
		t.Error("it is")
	}
}

// look is a transport that only looks.
type look func(*http.Request)

func (l look) RoundTrip(r *http.Request) (*http.Response, error) {
	l(r)
	return nil, errors.New("looked")
}

// The limit is 5 s for the whole answer, whatever the caller's patience.
func TestFiveSeconds(t *testing.T) {
	for name, stall := range map[string]stalling{"before the header": {}, "in the body": {header: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := clientOf(t, ClientConfig{Issuer: "https://login.example", HTTPClient: &http.Client{Transport: stall, Timeout: time.Hour}})
				began := time.Now()
				_, err := client.JSON(context.Background(), "https://login.example/x", "")
				if took := time.Since(began); took != requestTimeout || err == nil {
					t.Errorf("it took %v and gave %v", took, err)
				}
			})
		})
	}
}

// stalling is a transport that never comes to an end by itself.
type stalling struct{ header bool }

func (s stalling) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.header {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: stalledBody{r.Context()}, ContentLength: -1, Request: r}, nil
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

type stalledBody struct{ ctx context.Context }

func (b stalledBody) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}
func (stalledBody) Close() error { return nil }

// Requirement 47: no cookie is sent or kept, and none of the caller's headers that
// would change what the answer is.
func TestHeaders(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "" || r.Header.Get("User-Agent") != "anteroom" || r.Header.Get("Accept") == "" {
			t.Errorf("got %v", r.Header)
		}
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1"})
		_, _ = io.WriteString(w, "{}")
	})
	client := clientOf(t, ClientConfig{Issuer: server.URL})
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Cookie", "a=b")
		r.Header.Set("Accept-Encoding", "identity")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
}
