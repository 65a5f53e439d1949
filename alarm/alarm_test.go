package alarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hookOf answers with the statuses in turn, the last one for ever, and remembers what it got.
type hookOf struct {
	mu     sync.Mutex
	status []int
	got    []*http.Request
	body   []string
	at     []time.Time
	hang   bool
}

func (h *hookOf) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.got, h.body, h.at = append(h.got, r), append(h.body, string(body)), append(h.at, time.Now())
	status, hang := h.status[0], h.hang
	if len(h.status) > 1 {
		h.status = h.status[1:]
	}
	h.mu.Unlock()
	if hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("SECRET ANSWER")), Request: r, Header: http.Header{"Location": {"https://evil.test/"}}}, nil
}

func (h *hookOf) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.got)
}

// bodies is what it got until now.
func (h *hookOf) bodies() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.body)
}

// buffer is a log that may be written from anywhere.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const address = "https://hooks.test/services/T000/SECRET-PATH"

func token(t *testing.T) Secret {
	t.Helper()
	s, err := NewSecret("SECRET-TOKEN")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, h *hookOf) (*Alarm, *buffer) {
	t.Helper()
	logged := new(buffer)
	a, err := New(Config{Webhook: address, Token: token(t), Client: &http.Client{Transport: h}, Logger: slog.New(slog.NewJSONHandler(logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return a, logged
}

func event() Event {
	return Event{
		Kind: KindEmergency, Ref: "7Q2M9XKD4T", Site: "app.test", Source: "idp", Who: "dana", Roles: []string{"doctor"}, Subject: "patient-4711",
		Rule: "break_glass role doctor on /patients/** for 30m", Reason: "unconscious", Count: 2, At: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// G7: the event is in the log at the highest level before Raise returns and POSTed at once; whose data it is about is in the
// POST alone.
func TestG7Raise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hookOf{status: []int{200}}
		a, logged := open(t, h)
		defer a.Close()
		ctx, cancel := context.WithCancel(context.Background())
		a.Raise(ctx, event())
		cancel() // the request is over; the alarm is not
		for _, part := range []string{`"level":"ERROR"`, "ALARM: Emergency access by dana at app.test", "7Q2M9XKD4T", "doctor", "unconscious"} {
			if !strings.Contains(logged.String(), part) {
				t.Errorf("the log lacks %s: %s", part, logged)
			}
		}
		synctest.Wait()
		if h.count() != 1 {
			t.Fatalf("%d requests", h.count())
		}
		r := h.got[0]
		if r.Method != http.MethodPost || r.URL.String() != address || r.Header.Get("Authorization") != "Bearer SECRET-TOKEN" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(h.body[0]), &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"kind": "emergency", "ref": "7Q2M9XKD4T", "site": "app.test", "who": "dana", "subject": "patient-4711", "reason": "unconscious", "count": 2.0, "at": "2030-01-02T03:04:05Z"}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s is %v", name, got[name])
			}
		}
		if got["id"] == "" || got["id"] != r.Header.Get("Idempotency-Key") || strings.Contains(got["text"].(string), "4711") {
			t.Errorf("%v", got)
		}
		if strings.Contains(logged.String(), "4711") {
			t.Error("a patient is in the log")
		}
	})
}

// What fails is tried again with the same id, within three minutes in all; an event that waits holds up no other.
func TestTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hookOf{status: []int{500, 503, 429, 200}}
		a, logged := open(t, h)
		defer a.Close()
		var result error = errors.New("not called")
		a.RaiseThen(context.Background(), event(), func(err error) { result = err })
		synctest.Wait()
		other := event()
		other.Ref = "ANOTHER"
		a.Raise(context.Background(), other) // gets the 503
		synctest.Wait()
		if bodies := h.bodies(); len(bodies) != 2 || !strings.Contains(bodies[1], "ANOTHER") {
			t.Errorf("%d requests; another event waits for the first one's turn", h.count())
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if result != nil {
			t.Errorf("result %v", result)
		}
		ids := map[string]int{}
		for _, r := range h.got {
			ids[r.Header.Get("Idempotency-Key")]++
		}
		if len(ids) != 2 || len(h.got) != 5 {
			t.Errorf("%v", ids)
		}
		wantQuiet(t, logged.String())
	})
}

// After the last try the event is given up, in so many words, and whoever raised it is told.
func TestGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		hook  *hookOf
		tries int
	}{
		"failing":      {&hookOf{status: []int{500}}, len(delays) + 1},
		"silent":       {&hookOf{status: []int{200}, hang: true}, len(delays) + 1},
		"redirecting":  {&hookOf{status: []int{307}}, 1},
		"moved":        {&hookOf{status: []int{301}}, 1},
		"unauthorized": {&hookOf{status: []int{401}}, 1},
		"not found":    {&hookOf{status: []int{404}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, logged := open(t, c.hook)
				defer a.Close()
				began, called := time.Now(), 0
				var result error
				a.RaiseThen(context.Background(), event(), func(err error) { result, called = err, called+1 })
				time.Sleep(3 * time.Minute) // package emergency leaves it alone for as long
				synctest.Wait()
				if !errors.Is(result, ErrDelivery) || called != 1 || c.hook.count() != c.tries || errors.Is(result, ErrRefused) != (c.tries == 1) {
					t.Errorf("%v, called %d times, %d tries", result, called, c.hook.count())
				}
				if last := c.hook.at[len(c.hook.at)-1].Sub(began); last > 3*time.Minute-postTimeout {
					t.Errorf("the last try began after %v", last)
				}
				if !strings.Contains(logged.String(), "is given up") {
					t.Errorf("nobody is told: %s", logged)
				}
				wantQuiet(t, logged.String()+result.Error())
			})
		})
	}
}

// wantQuiet: neither the address nor the token nor the answer nor the patient is told to anybody else.
func wantQuiet(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"SECRET", "T000", "4711", "evil.test"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is told: %s", secret, text)
		}
	}
}

// Raise never waits: a webhook that hangs fills a bounded queue, and what does not fit is told at once.
func TestBoundedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hookOf{status: []int{200}, hang: true}
		a, logged := open(t, h)
		began, full := time.Now(), 0
		for i := range maxQueue + 50 {
			e := event()
			e.Ref = fmt.Sprint(i)
			a.RaiseThen(context.Background(), e, func(err error) {
				if errors.Is(err, ErrDelivery) && time.Since(began) == 0 {
					full++
				}
			})
		}
		if time.Since(began) != 0 || full < 49 || full > 50 {
			t.Errorf("%d were refused after %v", full, time.Since(began))
		}
		if n := strings.Count(logged.String(), "ALARM:"); n != maxQueue+50 {
			t.Errorf("%d are in the log", n)
		}
		if err := a.Close(); err != nil || time.Since(began) > closeTimeout {
			t.Errorf("Close took %v: %v", time.Since(began), err)
		}
		if n := strings.Count(logged.String(), "is given up"); n != maxQueue+50 {
			t.Errorf("%d of them were given up in so many words", n)
		}
	})
}

// Close sends what waits once more; after it nothing is sent, and that is told.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hookOf{status: []int{500, 200}}
		a, _ := open(t, h)
		result := errors.New("not called")
		a.RaiseThen(context.Background(), event(), func(err error) { result = err })
		synctest.Wait()
		if err := a.Close(); err != nil || result != nil || h.count() != 2 {
			t.Errorf("%v, %v, %d requests", err, result, h.count())
		}
		a.RaiseThen(context.Background(), event(), func(err error) { result = err })
		if !errors.Is(result, ErrDelivery) || h.count() != 2 {
			t.Errorf("after Close: %v", result)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A nil Alarm, the zero one and one without a webhook send nothing and say so.
func TestWithoutWebhook(t *testing.T) {
	var logged buffer
	bare, err := New(Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Alarm{nil, {}, bare} {
		var result error
		a.RaiseThen(t.Context(), event(), func(err error) { result = err })
		a.Raise(t.Context(), event())
		if !errors.Is(result, ErrNoWebhook) || !errors.Is(a.Deliver(t.Context(), event()), ErrNoWebhook) || a.Sends() || a.Close() != nil {
			t.Errorf("%v", result)
		}
	}
	if strings.Count(logged.String(), "ALARM") != 2 {
		t.Errorf("log: %s", &logged)
	}
}

// Names are sent over https, or within this machine, and to an address that holds no password.
func TestAddress(t *testing.T) {
	for address, good := range map[string]bool{
		"https://hooks.test/x?y=z": true, "http://127.0.0.1:9/x": true, "http://[::1]/": true, "http://localhost:8080": true, "http://127.9.9.9/": true,
		"http://hooks.test/": false, "http://192.0.2.1/": false, "http://localhost.evil.test/": false, "http://127.0.0.1.evil.test/": false,
		"http://0.0.0.0/": false, "http://[::ffff:192.0.2.1]/": false, "ftp://127.0.0.1/": false, "file:///etc/passwd": false, "//hooks.test/": false,
		"https://user:SECRET@hooks.test/": false, "https://hooks.test/#x": false, "https:///x": false, "https:hooks.test": false, "hooks.test": false,
		"https://:443/": false, "https://hooks.test/\x00": false, "https://hooks.test/SECRET%zz": false, "http://127.0.0.1@evil.test/": false,
	} {
		_, err := New(Config{Webhook: address})
		if (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%v", err)
		}
	}
	if _, err := New(Config{Token: token(t)}); err == nil {
		t.Error("a token for nobody")
	}
}

// A name that resolves to another machine gets nothing over plain http; nor does a proxy.
func TestPlainStaysHere(t *testing.T) {
	h, err := newHook(Config{Webhook: "http://localhost:1/"})
	if err != nil {
		t.Fatal(err)
	}
	transport := h.trip.(*http.Transport)
	if transport.Proxy != nil {
		t.Error("a proxy may take it")
	}
	if _, err := transport.DialContext(t.Context(), "tcp", "192.0.2.1:80"); err == nil || !strings.Contains(err.Error(), "this machine only") {
		t.Errorf("%v", err)
	}
}

// Over real connections: no redirect is followed, an endless answer ends, the token goes nowhere else.
func TestOverTheWire(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	var auth []string
	mux := http.NewServeMux()
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	endless := make(chan int, 1)
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		for ; n < 1<<12; n++ {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				break
			}
		}
		endless <- n
	})
	mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) {
		auth = append(auth, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusAccepted)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	deliver := func(path string) error {
		a, err := New(Config{Webhook: server.URL + path, Token: token(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		return a.Deliver(t.Context(), event())
	}
	if err := deliver("/moved"); !errors.Is(err, ErrRefused) || elsewhere != 0 {
		t.Errorf("%v, %d requests elsewhere", err, elsewhere)
	}
	if err := deliver("/endless"); err != nil {
		t.Error(err)
	}
	if n := <-endless; n == 1<<12 {
		t.Errorf("%d KiB of an answer are read", n<<6)
	}
	if err := deliver("/good"); err != nil || len(auth) != 1 || auth[0] != "Bearer SECRET-TOKEN" {
		t.Errorf("%v %q", err, auth)
	}
}

// The token prints as nothing, however it is printed and wherever it stands.
func TestSecretIsRedacted(t *testing.T) {
	s := token(t)
	c := Config{Webhook: "https://hooks.test/", Token: s}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "token", s, "config", c, "alarm", a)
	all := logged.String()
	for _, v := range []any{s, &s, c, &c, a, *a.hook, a.hook, struct{ s Secret }{s}, []Secret{s}} {
		all += fmt.Sprintf("%v %+v %#v %s %q %x %d", v, v, v, v, v, v, v)
		b, _ := json.Marshal(v)
		all += string(b)
	}
	if hex := fmt.Sprintf("%x", "SECRET-TOKEN"); strings.Contains(all, "SECRET-TOKEN") || strings.Contains(all, hex) {
		t.Error("it is printed")
	}
	for text, good := range map[string]bool{
		"abc": true, "a.b-c_d~e+f/g==": true, "": false, "=": false, "a b": false, "a\r\nX-Evil: 1": false, "a=b": false, "ü": false, strings.Repeat("a", 4097): false,
	} {
		if _, err := NewSecret(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// What strangers chose, a username, acts neither on a terminal nor on a chat program, and stays short.
func TestHostileNames(t *testing.T) {
	e := event()
	e.Who = "<!channel> [click](https://evil.test) `x` \x1b[2J\u202e" + strings.Repeat("é", 500)
	e.Roles = make([]string, 1000)
	e.tidy(time.Now())
	text := e.sentence()
	if strings.ContainsAny(text, "<>!`[]\x1b\u202e") || len(e.Who) > capShort+3 || len(e.Roles) != maxRoles {
		t.Errorf("%q", text)
	}
	if _, err := json.Marshal(e.json()); err != nil {
		t.Error(err)
	}
}

// The same event has the same id, another one has another.
func TestID(t *testing.T) {
	id := func(change func(*Event)) string {
		e := event()
		change(&e)
		e.tidy(time.Unix(7, 0))
		return e.ID
	}
	first := id(func(*Event) {})
	if first == "" || id(func(*Event) {}) != first || id(func(e *Event) { e.ID = "mine" }) != "mine" {
		t.Error(first)
	}
	for name, change := range map[string]func(*Event){
		"kind": func(e *Event) { e.Kind = KindRate }, "who": func(e *Event) { e.Who = "erin" }, "at": func(e *Event) { e.At = e.At.Add(1) },
		"subject": func(e *Event) { e.Subject = "8" }, "moved": func(e *Event) { e.Site, e.Source = e.Site+"i", "dp" },
	} {
		if id(change) == first {
			t.Errorf("%s does not count", name)
		}
	}
}
