package portal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

const site = "medrecords.hospital.example"

// source is a way to sign in that does what a test tells it.
type source struct {
	name, title string

	mu        sync.Mutex // guards the fields below
	beginErr  error
	finishErr error
	redirect  string // overrides the address of Begin
	keep      []byte // overrides what Begin keeps
	id        identity.Identity
	begins    []identity.Start
	finishes  []identity.Callback
	posts     bool   // the answer comes as a form
	during    func() // what happens while the source is being asked at Finish
	more      *more  // nil: it only signs in
}

func newSource(name, title string) *source {
	return &source{name: name, title: title, id: identity.Identity{
		Source: name, Issuer: "https://" + name + ".example", Subject: "sub-1", Username: "adoe",
		Name: "Dr. Ada Doe", Email: "ada@hospital.example", Roles: []string{"doctor"},
	}}
}

func (s *source) Name() string  { return s.name }
func (s *source) Title() string { return s.title }

func (s *source) Begin(_ context.Context, st identity.Start) (identity.Step, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begins = append(s.begins, st)
	if s.beginErr != nil {
		return identity.Step{}, s.beginErr
	}
	step := identity.Step{
		Posted:      s.posts,
		RedirectURL: "https://" + s.name + ".example/authorize?state=" + st.State,
		Keep:        []byte("kept for " + st.State),
	}
	if s.redirect != "" {
		step.RedirectURL = s.redirect
	}
	if s.keep != nil {
		step.Keep = s.keep
	}
	return step, nil
}

func (s *source) Finish(_ context.Context, c identity.Callback) (identity.Identity, error) {
	s.mu.Lock()
	during := s.during
	s.mu.Unlock()
	if during != nil {
		during()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishes = append(s.finishes, c)
	if s.finishErr != nil {
		return identity.Identity{}, s.finishErr
	}
	if string(c.Keep) != "kept for "+c.Query.Get("state") {
		return identity.Identity{}, &identity.Failure{Kind: identity.ErrRefused, Reason: "fake.keep"}
	}
	return s.id, nil
}

func (s *source) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *source) finished() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.finishes)
}

func (s *source) lastBegin(t testing.TB) identity.Start {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.begins) == 0 {
		t.Fatal("the source was never asked to begin")
	}
	return s.begins[len(s.begins)-1]
}

// recorder keeps events, or refuses those of the kinds that a test names.
type recorder struct {
	mu     sync.Mutex // guards the fields below
	events []audit.Event
	refuse func(audit.Event) bool
}

func (r *recorder) Record(_ context.Context, e audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil && r.refuse(e) {
		return audit.ErrUnavailable
	}
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) set(f func(audit.Event) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = f
}

func (r *recorder) last(t testing.TB) audit.Event {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		t.Fatal("nothing was recorded")
	}
	return r.events[len(r.events)-1]
}

func (r *recorder) kinds() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		list = append(list, e.Kind+" "+e.Decision+" "+e.Reason)
	}
	return list
}

// sealer is AES-GCM with the label as associated data.
type sealer struct {
	aead cipher.AEAD

	mu  sync.Mutex // guards err
	err error
}

var errSealer = errors.New("sealer is down")

func newSealer(t testing.TB) *sealer {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return &sealer{aead: aead}
}

func (s *sealer) Seal(_ context.Context, label string, plain []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return s.aead.Seal(nil, nil, plain, []byte(label)), nil
}

func (s *sealer) Open(_ context.Context, label string, sealed []byte) ([]byte, error) {
	return s.aead.Open(nil, nil, sealed, []byte(label))
}

// world is a portal with everything around it.
type world struct {
	t        testing.TB
	portal   *Portal
	sessions *session.Manager
	store    *faulty
	sealer   *sealer
	audit    *recorder
	sources  []*source
	start    time.Time

	mu  sync.Mutex // guards now
	now time.Time
}

// clock is the portal's and the store's; sessions keep theirs at the start,
// so that moving it does not look like a store that went silent.
func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t testing.TB, sources ...*source) *world {
	t.Helper()
	start := time.Now().Truncate(time.Second)
	w := &world{t: t, start: start, now: start, audit: new(recorder), sealer: newSealer(t), sources: sources}
	db, err := bolt.Open(bolt.Config{Path: t.TempDir() + "/data/store.db", Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.store = &faulty{Store: db}
	w.sessions = w.manager(start)
	var list []identity.Source
	for _, s := range sources {
		list = append(list, s.whole())
	}
	w.portal, err = New(Config{
		Sources: list, Sessions: w.sessions, Store: w.store, Sealer: w.sealer, Audit: w.audit,
		Posted: w.posts, Now: w.clock, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) posts(name string) bool {
	return slices.ContainsFunc(w.sources, func(s *source) bool { return s.name == name && s.posts })
}

// manager starts a session manager on the world's store, whose clock stands.
func (w *world) manager(at time.Time) *session.Manager {
	w.t.Helper()
	m, err := session.New(session.Config{Store: w.store, Sealer: w.sealer, Now: func() time.Time { return at }})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.Close)
	return m
}

// browser is a person's browser: a cookie jar that keeps the rules of __Host-
// names, and the headers that browsers send.
type browser struct {
	w    *world
	host string
	jar  map[string]string
}

func (w *world) browser() *browser { return &browser{w: w, host: site, jar: make(map[string]string)} }

func (b *browser) clone() *browser {
	c := &browser{w: b.w, host: b.host, jar: make(map[string]string)}
	for k, v := range b.jar {
		c.jar[k] = v
	}
	return c
}

func (b *browser) request(method, target string, edit ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host = b.host
	r.RemoteAddr = "192.0.2.7:4711"
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Origin", "https://"+b.host)
	}
	names := make([]string, 0, len(b.jar))
	for name := range b.jar {
		names = append(names, name)
	}
	slices.Sort(names)
	var pairs []string
	for _, name := range names {
		pairs = append(pairs, name+"="+b.jar[name])
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	for _, f := range edit {
		f(r)
	}
	return r
}

func (b *browser) do(method, target string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	b.w.t.Helper()
	return b.send(b.request(method, target, edit...))
}

func (b *browser) send(r *http.Request) *httptest.ResponseRecorder {
	b.w.t.Helper()
	w := httptest.NewRecorder()
	b.w.portal.ServeHTTP(w, r)
	b.keep(w)
	return w
}

// keep stores cookies as a browser does, and fails when one of ours lacks an
// attribute that its name demands.
func (b *browser) keep(w *httptest.ResponseRecorder) {
	b.w.t.Helper()
	for _, c := range w.Result().Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-anteroom") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
			b.w.t.Errorf("cookie %s has attributes that the browser refuses or that are too weak: %s", c.Name, c.Raw)
			continue
		}
		if len(c.Name)+len(c.Value) > 4096 {
			b.w.t.Errorf("cookie %s is larger than browsers keep", c.Name)
			continue
		}
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
			continue
		}
		b.jar[c.Name] = c.Value
	}
}

func (b *browser) get(target string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	b.w.t.Helper()
	return b.do(http.MethodGet, target, edit...)
}

// attempts lists the names of the attempt cookies in the jar.
func (b *browser) attempts() (names []string) {
	for name := range b.jar {
		if strings.HasPrefix(name, attemptCookie) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (b *browser) session() (*session.Session, error) {
	return b.w.sessions.Find(b.request("GET", "/").Header["Cookie"], b.host)
}

func (b *browser) mustSession() *session.Session {
	b.w.t.Helper()
	s, err := b.session()
	if err != nil {
		b.w.t.Fatalf("browser has no session: %v", err)
	}
	return s
}

func (b *browser) mustNoSession() {
	b.w.t.Helper()
	if s, err := b.session(); err == nil {
		b.w.t.Fatalf("browser has a session of %s", s.Username)
	}
}

// begin starts a sign-in and returns its state.
func (b *browser) begin(name, to string) string {
	b.w.t.Helper()
	w := b.get("/.anteroom/login/" + name + "?return_to=" + url.QueryEscape(to))
	if w.Code != http.StatusFound {
		b.w.t.Fatalf("beginning at %s: %d %s", name, w.Code, w.Body)
	}
	u, err := url.Parse(w.Header().Get("Location"))
	if err != nil {
		b.w.t.Fatal(err)
	}
	return u.Query().Get("state")
}

func callback(name, state string) string {
	return "/.anteroom/callback/" + name + "?code=c0de&state=" + state
}

// fromProvider is how the browser comes back: a cross-site navigation.
func fromProvider(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }

// signIn does the whole way and returns the answer of the callback.
func (b *browser) signIn(name, to string) *httptest.ResponseRecorder {
	b.w.t.Helper()
	w := b.get(callback(name, b.begin(name, to)), fromProvider)
	if w.Code != http.StatusSeeOther {
		b.w.t.Fatalf("signing in at %s: %d %s", name, w.Code, w.Body)
	}
	return w
}

// program makes the request one of an API client.
func program(r *http.Request) {
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Sec-Fetch-Mode", "cors")
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// expect fails when an answer is not of this status with all these texts.
func expect(t testing.TB, w *httptest.ResponseRecorder, status int, texts ...string) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s %s", w.Code, status, w.Header(), w.Body)
	}
	for _, s := range texts {
		if !strings.Contains(w.Body.String(), s) {
			t.Errorf("the answer lacks %q: %s", s, w.Body)
		}
	}
}

// expectFailure fails when a sign-in did not end on this page with this
// reason in the audit log and its reference number on the page.
func (b *browser) expectFailure(w *httptest.ResponseRecorder, page *errorPage, reason string) {
	b.w.t.Helper()
	e := b.w.audit.last(b.w.t)
	expect(b.w.t, w, page.status, page.title, e.Ref)
	if e.Kind != "sign-in" || e.Decision == "allowed" || e.Reason != reason {
		b.w.t.Errorf("recorded %+v, want reason %q", e, reason)
	}
	b.mustNoSession()
}
