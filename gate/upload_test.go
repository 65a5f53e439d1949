package gate

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"
)

// upload begins a POST whose body stops after some bytes and never ends, and gives its answer.
func (r *rig) upload(protocol int, who *person) (answer <-chan *http.Response) {
	r.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: site}, ForceAttemptHTTP2: protocol == 2}
	if protocol == 1 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	body, more := io.Pipe()
	r.t.Cleanup(func() { more.Close(); transport.CloseIdleConnections() })
	q, err := http.NewRequest("POST", r.server.URL+"/members/film", body)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Host = site
	q.Header.Set("Cookie", who.cookie)
	q.Header.Set("Origin", "https://"+site)
	got := make(chan *http.Response, 1)
	go more.Write([]byte("first frame"))
	go func() {
		resp, err := transport.RoundTrip(q)
		if err != nil {
			r.t.Logf("upload: %v", err)
		}
		got <- resp
	}()
	return got
}

// An upload whose client pauses ends with its session, whether the app reads it itself or a proxy does. Sent: half a body.
// What would happen: whoever reads waits for the client, who decides how long the request of a session lives that is over.
func TestPausedUploadEnds(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		for name, proxied := range map[string]bool{"read here": false, "proxied": true} {
			t.Run(fmt.Sprintf("HTTP/%d, %s", protocol, name), func(t *testing.T) {
				r := newRig(t)
				begun, ended := make(chan struct{}), make(chan struct{})
				read := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					defer close(ended)
					io.ReadFull(q.Body, make([]byte, len("first frame")))
					close(begun)
					if _, err := io.Copy(io.Discard, q.Body); err == nil {
						t.Error("half an upload looks like a whole one")
					}
					if http.NewResponseController(w).SetReadDeadline(time.Time{}) == nil && !proxied {
						t.Error("the app has moved the end")
					}
					w.WriteHeader(http.StatusBadRequest)
				})
				var app http.Handler = read
				if proxied {
					behind := httptest.NewServer(read)
					defer behind.Close()
					target, _ := url.Parse(behind.URL)
					proxy := httputil.NewSingleHostReverseProxy(target)
					proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
					app = proxy
				}
				dana := r.dana()
				answer := r.serve(app).upload(protocol, dana)
				<-begun
				start := r.revoke(dana)
				<-ended
				resp := <-answer
				if took := time.Since(start); took > within {
					t.Errorf("it took %s", took)
				}
				if resp != nil {
					resp.Body.Close()
				}
				if resp == nil || resp.StatusCode != http.StatusUnauthorized || resp.Close != (protocol == 1) {
					t.Errorf("answer %+v", resp)
				}
				r.audit.ends(t, 1)
			})
		}
	}
}
