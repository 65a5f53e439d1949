package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// browser is an HTTP client that behaves as a person's browser does, as far as a server can see: it keeps cookies, says that
// it navigates, follows redirects and sends forms with an Origin.
type browser struct {
	client *http.Client
	trace  []string // "GET https://app.test:1234/x → 302", of the last call
}

// newBrowser trusts the tests' authority besides roots, and finds every host on 127.0.0.1 (and only there).
func newBrowser(t testing.TB, roots ...[]byte) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	pool := ca().pool.Clone()
	for _, root := range roots {
		if !pool.AppendCertsFromPEM(root) {
			t.Fatal("a root certificate does not parse")
		}
	}
	dialer := &net.Dialer{Timeout: patience}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
		ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	b := &browser{client: &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// page is a response with its body read.
type page struct {
	Status int
	Header http.Header
	Body   string
	URL    *url.URL
}

// do sends one request and does not follow redirects.
func (b *browser) do(t testing.TB, req *http.Request) page {
	t.Helper()
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil {
		t.Fatalf("%s %s: reading the body: %v", req.Method, req.URL, err)
	}
	b.trace = append(b.trace, fmt.Sprintf("%s %s → %d", req.Method, req.URL, res.StatusCode))
	return page{res.StatusCode, res.Header, string(body), req.URL}
}

// navigation makes a request as for a link or a form of a page.
func navigation(t testing.TB, method, rawURL, body string, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, rawURL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if method != http.MethodGet {
		req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// call makes a request as a script or a program does: no navigation, JSON wanted.
func call(t testing.TB, method, rawURL, body string, headers ...string) *http.Request {
	t.Helper()
	req := navigation(t, method, rawURL, body, "Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// visit opens a page and follows redirects.
func (b *browser) visit(t testing.TB, rawURL string) page {
	t.Helper()
	b.trace = nil
	return b.follow(t, b.do(t, navigation(t, "GET", rawURL, "")))
}

func (b *browser) follow(t testing.TB, p page) page {
	t.Helper()
	for range 20 {
		location := p.Header.Get("Location")
		if p.Status < 300 || p.Status > 399 || location == "" {
			return p
		}
		next, err := p.URL.Parse(location)
		if err != nil {
			t.Fatalf("Location %q: %v", location, err)
		}
		p = b.do(t, navigation(t, "GET", next.String(), ""))
	}
	t.Fatalf("more than 20 redirects: %s", strings.Join(b.trace, "\n"))
	return p
}

// submit fills the form of a page that has all the named fields and follows where it leads.
func (b *browser) submit(t testing.TB, p page, values map[string]string) page {
	t.Helper()
	action, fields := formWith(t, p, values)
	target, err := p.URL.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	return b.follow(t, b.do(t, navigation(t, "POST", target.String(), fields.Encode())))
}

// formWith finds the form of a page that has all named fields and returns its action and its fields with the values set.
func formWith(t testing.TB, p page, values map[string]string) (string, url.Values) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(p.Body))
	if err != nil {
		t.Fatal(err)
	}
	for node := range doc.Descendants() {
		if node.Type != html.ElementNode || node.Data != "form" {
			continue
		}
		fields := url.Values{}
		for input := range node.Descendants() {
			if name := attr(input, "name"); name != "" && (input.Data == "input" || input.Data == "select" || input.Data == "textarea") {
				fields.Set(name, attr(input, "value"))
			}
		}
		complete := true
		for name, value := range values {
			complete = complete && fields.Has(name)
			fields.Set(name, value)
		}
		if complete {
			return attr(node, "action"), fields
		}
	}
	t.Fatalf("no form with the fields %v at %s:\n%s", values, p.URL, p.Body)
	return "", nil
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// signIn goes to a page of a site, signs in at the provider's form and returns the page that the way ends at.
func (b *browser) signIn(t testing.TB, rawURL, user, password string) page {
	t.Helper()
	p := b.visit(t, rawURL)
	if !strings.Contains(p.Body, "password") {
		t.Fatalf("no sign-in form at the end of the way from %s (%d):\n%s\n%s", rawURL, p.Status, strings.Join(b.trace, "\n"), p.Body)
	}
	return b.submit(t, p, map[string]string{"username": user, "password": password})
}

// cookies returns the Cookie header line that the browser would send to a URL, and its cookies by name.
func (b *browser) cookies(t testing.TB, rawURL string) (line string, byName map[string]string) {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	byName = map[string]string{}
	var parts []string
	for _, c := range b.client.Jar.Cookies(u) {
		parts = append(parts, c.Name+"="+c.Value)
		byName[c.Name] = c.Value
	}
	return strings.Join(parts, "; "), byName
}

// The names of the session's two cookies; a public contract.
const (
	cookieToken   = "__Host-anteroom"
	cookieContext = "__Host-anteroom-ctx"
)

// session is a signed-in person: the two cookies, as they can be copied.
type session struct {
	user, token, context string
}

// line is the Cookie header of a session; nobody's is empty.
func (s *session) line() string {
	if s == nil {
		return ""
	}
	return "Cookie: " + cookieToken + "=" + s.token + "; " + cookieContext + "=" + s.context
}

// person signs in as one of the provider's users and returns the session.
func (r *rig) person(t testing.TB, host, user string) *session {
	t.Helper()
	r.op.ready(t)
	b := newBrowser(t)
	p := b.signIn(t, r.url(host, "/.anteroom/login?return_to=/.anteroom/"), user, user+"-pw")
	_, cookies := b.cookies(t, r.url(host, "/"))
	s := &session{user, cookies[cookieToken], cookies[cookieContext]}
	if p.Status != http.StatusOK || s.token == "" || s.context == "" {
		t.Fatalf("signing in as %s ended with %d and the cookies %v\n%s\n%s", user, p.Status, cookies, strings.Join(b.trace, "\n"), p.Body)
	}
	return s
}
