package portal

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"testing"
)

const (
	homeHost = "auth.hospital.example"
	fincare  = "fincare.hospital.example"
	clinic   = "clinic.example:8443" // of another domain and port
)

var servedHosts = []string{site, fincare, clinic}

// newFleet is a world with one portal for three sites.
func newFleet(t testing.TB, sources ...*source) *world {
	t.Helper()
	w := newWorld(t, sources...)
	w.portal = w.fleetPortal(w.sessions)
	return w
}

func (w *world) fleetPortal(m *session.Manager) *Portal {
	w.t.Helper()
	var list []identity.Source
	for _, s := range w.sources {
		list = append(list, s.whole())
	}
	p, err := New(Config{
		Sources: list, Sessions: m, Store: w.store, Sealer: w.sealer, Audit: w.audit,
		Home: homeHost, Served: func(h string) bool { return h == homeHost || slices.Contains(servedHosts, h) },
		Posted: w.posts, Now: w.clock, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// node is another node of the same installation: another session manager on the
// same store.
func (w *world) node() *world {
	w.t.Helper()
	n := &world{t: w.t, store: w.store, sealer: w.sealer, audit: w.audit, sources: w.sources, start: w.start, now: w.clock()}
	n.sessions = n.manager(w.start)
	n.portal = n.fleetPortal(n.sessions)
	return n
}

// person is somebody's browser with what it holds for each host.
type person struct {
	w    *world
	jars map[string]*browser

	// provider is what the person does at the provider's page; nil: signs in.
	provider func(state string) string
}

func (w *world) person() *person { return &person{w: w, jars: make(map[string]*browser)} }

// at is the browser as a host sees it.
func (u *person) at(host string) *browser {
	b := u.jars[host]
	if b == nil {
		b = &browser{w: u.w, host: host, jar: make(map[string]string)}
		u.jars[host] = b
	}
	return b
}

// hop is one answer on a way through hosts.
type hop struct {
	host, target string
	answer       *httptest.ResponseRecorder
}

// url is the address that this answer was for.
func (h hop) url() string { return "https://" + h.host + h.target }

// step asks one address and returns the answer and where it leads, empty for
// nowhere.
func (u *person) step(host, target string, edit ...func(*http.Request)) (hop, string) {
	u.w.t.Helper()
	answer := u.at(host).get(target, edit...)
	h := hop{host: host, target: target, answer: answer}
	to := answer.Header().Get("Location")
	if to == "" {
		return h, ""
	}
	base, err := url.Parse(h.url())
	if err != nil {
		u.w.t.Fatal(err)
	}
	next, err := base.Parse(to)
	if err != nil {
		u.w.t.Fatal(err)
	}
	return h, next.String()
}

// open follows redirects as a browser does, over all hosts and through the
// provider, until a page is shown or the application is reached, whose answer
// has no code. It fails when the way does not end.
func (u *person) open(host, target string) (last hop, way []hop) {
	u.w.t.Helper()
	from := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }
	at := "https://" + host + target
	for range 12 {
		address, err := url.Parse(at)
		if err != nil {
			u.w.t.Fatal(err)
		}
		if !strings.HasPrefix(address.Path, DefaultPrefix) {
			return hop{host: address.Host, target: address.RequestURI()}, way
		}
		var h hop
		h, at = u.step(address.Host, address.RequestURI(), from)
		way = append(way, h)
		if at == "" {
			return h, way
		}
		if name, state, ok := atProvider(at); ok {
			at = "https://" + address.Host + callback(name, state)
			if u.provider != nil {
				at = "https://" + address.Host + u.provider(state)
			}
		}
		from = fromProvider
	}
	u.w.t.Fatalf("the way does not end: it has come to %s", at)
	return
}

// atProvider reports whether an address is one of our providers' and names it.
func atProvider(address string) (name, state string, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Path != "/authorize" {
		return "", "", false
	}
	name, _ = strings.CutSuffix(u.Host, ".example")
	return name, u.Query().Get("state"), true
}

// mustOpen opens a site's page, signing in on the way, and fails unless the
// person lands exactly there with a session.
func (u *person) mustOpen(host, to string) *session.Session {
	u.w.t.Helper()
	last, way := u.open(host, "/.anteroom/login?return_to="+url.QueryEscape(to))
	if last.answer != nil || last.host != host || last.target != to {
		body := ""
		if last.answer != nil {
			body = last.answer.Body.String()
		}
		u.w.t.Fatalf("landed at %s after %d hops: %s", last.url(), len(way), body)
	}
	return u.at(host).mustSession()
}

// leave goes from a site to the portal and returns the address there.
func (u *person) leave(host, to string) (ask string) {
	u.w.t.Helper()
	h, next := u.step(host, "/.anteroom/login?return_to="+url.QueryEscape(to))
	const home = "https://" + homeHost + "/.anteroom/login?ask="
	if h.answer.Code != http.StatusFound || !strings.HasPrefix(next, home) {
		u.w.t.Fatalf("%s sent to %q: %d %s", host, next, h.answer.Code, h.answer.Body)
	}
	return strings.TrimPrefix(next, home)
}

// handed brings an ask to the portal, where the person is signed in, and
// returns the address at the site that it sends to.
func (u *person) handed(ask string) (host, target string) {
	u.w.t.Helper()
	h, next := u.step(homeHost, "/.anteroom/login?ask="+ask, fromProvider)
	v, err := url.Parse(next)
	if err != nil || next == "" || v.Path != "/.anteroom/callback/portal" {
		u.w.t.Fatalf("the portal sent to %q: %d %s", next, h.answer.Code, h.answer.Body)
	}
	return v.Host, v.RequestURI()
}

// signedOn is a person who is signed in at the portal.
func (w *world) signedOn() *person {
	w.t.Helper()
	u := w.person()
	if last, _ := u.open(homeHost, "/.anteroom/login"); last.answer != nil || last.target != "/" {
		w.t.Fatalf("landed at %s", last.url())
	}
	u.at(homeHost).mustSession()
	return u
}

// expectHandOffFailure fails when an answer is not this page with this reason
// in the audit log, or when a session began.
func (u *person) expectHandOffFailure(host string, answer *httptest.ResponseRecorder, page *errorPage, reason string) {
	u.w.t.Helper()
	e := u.w.audit.last(u.w.t)
	expect(u.w.t, answer, page.status, page.title, e.Ref)
	if e.Kind != kindHandOff || e.Decision != "failed" || e.Reason != reason || e.Site != siteName(host) {
		u.w.t.Errorf("recorded %+v, want reason %q", e, reason)
	}
	for _, c := range answer.Result().Cookies() {
		if c.MaxAge >= 0 {
			u.w.t.Errorf("the answer sets %s", c.Name)
		}
	}
}
