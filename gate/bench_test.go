package gate

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// silent is a ResponseWriter that costs nothing.
type silent struct{ h http.Header }

func (s *silent) Header() http.Header         { return s.h }
func (s *silent) WriteHeader(int)             {}
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkHandle is an authenticated request with a cached token, a public one, and one that is refused.
func BenchmarkHandle(b *testing.B) {
	sessions, _ := newSessions(b, time.Now)
	_, cookies, err := sessions.Issue(b.Context(), session.Grant{Source: "s", Subject: "1", Username: "dana", Name: "Dana Doe", Email: "dana@example.org", Roles: []string{"doctor", "staff"}}, site, session.Admission{})
	if err != nil {
		b.Fatal(err)
	}
	g, err := New(Config{Policy: compile(b, rules...), Sessions: sessions, Audit: audit.Off()})
	if err != nil {
		b.Fatal(err)
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	state := &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: site}
	for name, c := range map[string]struct{ target, cookie string }{
		"session": {"/members/patients/4711", "theme=dark; " + cookies[0].Name + "=" + cookies[0].Value + "; " + cookies[1].Name + "=" + cookies[1].Value},
		"public":  {"/public/app.css", "theme=dark"},
		"refused": {"/members/x", ""},
	} {
		b.Run(name, func(b *testing.B) {
			template, err := http.NewRequest("GET", c.target, nil)
			if err != nil {
				b.Fatal(err)
			}
			r := template.WithContext(b.Context())
			r.Host, r.RequestURI, r.TLS, r.RemoteAddr = site, c.target, state, "192.0.2.1:1234"
			r.Header = http.Header{"Accept": {"text/html"}, "Accept-Encoding": {"gzip"}, "Accept-Language": {"en"}, "User-Agent": {"x"}, "Sec-Fetch-Mode": {"navigate"},
				"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Dest": {"document"}, "Referer": {"https://app.example/"}, "Upgrade-Insecure-Requests": {"1"}}
			cookie, connection := []string{c.cookie}, []string{"keep-alive"}
			w := &silent{http.Header{"Content-Type": {"text/html"}, "Date": {"x"}, "Content-Length": {"3"}, "Set-Cookie": {"mine=1"}}}
			b.ReportAllocs()
			for b.Loop() { // what Handle changed is put back
				r.Header["Cookie"], r.Header["Connection"] = cookie, connection
				for _, name := range identityHeaders {
					delete(r.Header, name)
				}
				delete(w.h, "Cache-Control")
				delete(w.h, "Strict-Transport-Security")
				g.Handle(w, r, next)
			}
		})
	}
}
