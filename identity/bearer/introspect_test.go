package bearer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
)

// hang answers when the client gave up. A server sees that only after the body.
func hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// answers makes the server say this of every token.
func (r *rig) says(answer any) {
	r.server.set("/introspect", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, answer) })
}

// active is a good answer with some members changed.
func (r *rig) active(changes ...object) object {
	return changed(r.claims(), append([]object{{"active": true, "token_type": "Bearer", "cnf": nil, "jti": nil, "username": "dana"}}, changes...)...)
}

// opaque makes a new opaque token.
func opaque() string {
	proofs.Lock()
	defer proofs.Unlock()
	proofs.made++
	return fmt.Sprintf("opaque-%d", proofs.made)
}

func newAsking(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r := newRig(t, append([]func(*Config){introspecting}, change...)...)
	r.site.Unbound = true
	return r
}

func TestRow73Answers(t *testing.T) {
	r := newAsking(t)
	at := func(d time.Duration) int64 { return r.clock.now().Add(d).Unix() }
	for name, c := range map[string]struct {
		answer any
		reason string
	}{
		"active as text":           {r.active(object{"active": "true"}), "token.active"},
		"active 1":                 {r.active(object{"active": 1}), "token.active"},
		"active null":              {r.active(object{"active": null}), "token.active"},
		"active missing":           {r.active(object{"active": nil}), "token.active"},
		"active in another case":   {r.active(object{"active": nil, "Active": true}), "token.active"},
		"active array":             {r.active(object{"active": []bool{true}}), "token.active"},
		"inactive":                 {object{"active": false}, "token.inactive"},
		"inactive with the rest":   {r.active(object{"active": false}), "token.inactive"},
		"error of the issuer":      {object{"error": "invalid_token"}, "token.active"},
		"another issuer":           {r.active(object{"iss": "https://other.example"}), "token.iss"},
		"issuer null":              {r.active(object{"iss": null}), "token.iss"},
		"another audience":         {r.active(object{"aud": "https://other.example"}), "token.aud"},
		"no audience":              {r.active(object{"aud": nil}), "token.aud"},
		"no end":                   {r.active(object{"exp": nil}), "token.exp"},
		"expired":                  {r.active(object{"exp": at(-61 * time.Second)}), "token.exp"},
		"exp as text":              {r.active(object{"exp": "1"}), "token.exp"},
		"exp in milliseconds":      {r.active(object{"exp": rawNumber("99999999999999")}), "token.exp"},
		"not yet":                  {r.active(object{"nbf": at(61 * time.Second)}), "token.nbf"},
		"issued tomorrow":          {r.active(object{"iat": at(24 * time.Hour)}), "token.iat"},
		"nobody":                   {r.active(object{"sub": nil, "client_id": nil}), "token.sub"},
		"subject null":             {r.active(object{"sub": null}), "token.sub"},
		"subject number":           {r.active(object{"sub": 1}), "token.sub"},
		"kind not said":            {r.active(object{"token_type": nil}), "token.kind"},
		"a refresh token":          {r.active(object{"token_type": "refresh_token"}), "token.kind"},
		"a refresh token by use":   {r.active(object{"token_use": "refresh_token"}), "token.kind"},
		"a refresh token by typ":   {r.active(object{"typ": "Refresh"}), "token.kind"},
		"an ID token by typ":       {r.active(object{"typ": "ID"}), "token.kind"},
		"N_A":                      {r.active(object{"token_type": "N_A"}), "token.kind"},
		"kind number":              {r.active(object{"token_type": 1}), "token.kind"},
		"DPoP without a key":       {r.active(object{"token_type": "DPoP"}), "token.cnf"},
		"bound in an unknown way":  {r.active(object{"cnf": object{"kid": "a"}}), "token.cnf"},
		"bound to a key":           {r.active(object{"cnf": object{"jkt": thumbprint(r.client)}}), "token.bound"},
		"username that is no text": {r.active(object{"name": 1}), "name.type"},
		"subject with CR":          {r.active(object{"sub": "a\rb"}), "identity.subject"},
	} {
		t.Run("row 73 "+name, func(t *testing.T) {
			r := newRigClock(t, r)
			r.says(c.answer)
			r.refuses(request("Bearer", opaque()), c.reason)
		})
	}
	for name, c := range map[string]struct {
		answer  object
		subject string
	}{
		"plain":                 {r.active(), "f:1:dana"},
		"issuer not said":       {r.active(object{"iss": nil}), "f:1:dana"},
		"kind by use":           {r.active(object{"token_type": nil, "token_use": "access_token"}), "f:1:dana"},
		"kind in another case":  {r.active(object{"token_type": "bearer", "typ": "Bearer"}), "f:1:dana"},
		"a client of its own":   {r.active(object{"sub": nil}), "growth-chart"},
		"no client":             {r.active(object{"client_id": nil}), "f:1:dana"},
		"long life":             {r.active(object{"exp": at(30 * 24 * time.Hour)}), "f:1:dana"},
		"nulls where text goes": {r.active(object{"name": null, "email": null, "acr": null}), "f:1:dana"},
	} {
		t.Run("row 73 accepted "+name, func(t *testing.T) {
			r := newRigClock(t, r)
			r.says(c.answer)
			caller := r.accepts(request("Bearer", opaque()))
			if caller.Subject != c.subject || caller.Username != c.subject {
				t.Errorf("%+v", caller)
			}
		})
	}
	t.Run("row 73 bound, with a proof", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active(object{"token_type": "DPoP", "cnf": object{"jkt": thumbprint(r.client)}}))
		token := opaque()
		r.accepts(request("DPoP", token, r.proof(token)))
		r.refuses(request("DPoP", token, r.proof("another")), "dpop.ath")
		r.refuses(request("Bearer", token), "token.bound")
	})
	t.Run("row 73 unbound where it may not be", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active())
		r.site = &Site{Issuers: r.site.Issuers}
		r.refuses(request("Bearer", opaque()), "token.unbound")
	})
}

// Row 73: an answer that is none is the issuer's failure, never a yes and never the
// client's fault. Nothing of it is remembered.
func TestRow73Failures(t *testing.T) {
	r := newAsking(t, func(c *Config) { c.Fetch.HTTPClient = &http.Client{Timeout: 300 * time.Millisecond} })
	text := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		reason string
	}{
		"500":              {text(500, "application/json", `{"active":true}`), "introspection.unreachable"},
		"503":              {text(503, "text/html", ""), "introspection.unreachable"},
		"401":              {text(401, "application/json", `{}`), "introspection.client"},
		"403":              {text(403, "application/json", `{}`), "introspection.client"},
		"201":              {text(201, "application/json", `{"active":true}`), "introspection.unreachable"},
		"204":              {text(204, "application/json", ""), "introspection.unreachable"},
		"HTML":             {text(200, "text/html", "<html>"), "introspection.malformed"},
		"JSON as HTML":     {text(200, "text/html", `{"active":true}`), "introspection.malformed"},
		"signed":           {text(200, "application/token-introspection+jwt", "a.b.c"), "introspection.malformed"},
		"empty":            {text(200, "application/json", ""), "introspection.malformed"},
		"null":             {text(200, "application/json", "null"), "introspection.malformed"},
		"array":            {text(200, "application/json", `[{"active":true}]`), "introspection.malformed"},
		"true":             {text(200, "application/json", "true"), "introspection.malformed"},
		"two objects":      {text(200, "application/json", `{"active":false}{"active":true}`), "introspection.malformed"},
		"active twice":     {text(200, "application/json", `{"active":false,"active":true}`), "introspection.malformed"},
		"not UTF-8":        {text(200, "application/json", "{\"active\":true,\"sub\":\"\xff\"}"), "introspection.malformed"},
		"17 KiB":           {text(200, "application/json", `{"active":true,"x":"`+strings.Repeat("x", 17<<10)+`"}`), "introspection.malformed"},
		"17 KiB of blanks": {text(200, "application/json", `{"active":false}`+strings.Repeat(" ", 17<<10)), "introspection.malformed"},
		"2 MiB":            {text(200, "application/json", `{"active":true,"x":"`+strings.Repeat("x", 2<<20)+`"}`), "introspection.malformed"},
		"redirect": {func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "/elsewhere", http.StatusTemporaryRedirect)
		}, "introspection.unreachable"},
		"no answer":     {hang, "introspection.unreachable"},
		"cut off":       {cut, "introspection.unreachable"},
		"cut in a body": {cutBody, "introspection.unreachable"},
	} {
		t.Run("row 73 "+name, func(t *testing.T) {
			r := newRigClock(t, r)
			token := opaque()
			r.server.set("/introspect", c.answer)
			r.unavailable(request("Bearer", token), c.reason)
			r.says(r.active())
			r.accepts(request("Bearer", token)) // at once: the failure was not kept
		})
	}
	if n := r.server.count("/elsewhere"); n != 0 {
		t.Errorf("%d requests followed a redirect with a token", n)
	}
	t.Run("row 73 the issuer is down", func(t *testing.T) {
		r := newAsking(t, func(c *Config) {
			c.Fetch.HTTPClient = &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") })}
		})
		r.unavailable(request("Bearer", opaque()), "discovery.unreachable")
	})
	t.Run("row 48 the issuer of JWTs is down", func(t *testing.T) {
		r := newRig(t)
		r.server.set("/.well-known/oauth-authorization-server", text(500, "text/plain", ""))
		r.unavailable(r.good(), "discovery.unreachable")
		r.clock.pass(time.Minute)
		r.server.set("/.well-known/oauth-authorization-server", nil)
		r.server.set("/jwks", text(500, "text/plain", ""))
		r.unavailable(r.good(), "jwks.unreachable")
		r.clock.pass(time.Minute)
		r.server.set("/jwks", nil)
		r.accepts(r.good())
	})
}

func cut(w http.ResponseWriter, _ *http.Request) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		connection.Close()
	}
}

func cutBody(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "100")
	io.WriteString(w, `{"active":true}`)
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRow73Request(t *testing.T) {
	r := newAsking(t)
	var got http.Request
	var body url.Values
	r.server.set("/introspect", func(w http.ResponseWriter, q *http.Request) {
		q.ParseForm()
		got, body = *q, q.PostForm
		writeJSON(w, r.active())
	})
	token := "a+b/c~d"
	r.accepts(request("Bearer", token))
	id, secret, _ := got.BasicAuth()
	if got.Method != "POST" || id != "anteroom" || secret != url.QueryEscape("s3cret/+ of ours") || body.Get("token") != token || body.Get("token_type_hint") != "access_token" || len(body) != 2 || got.URL.RawQuery != "" {
		t.Errorf("%s %s with %v as %s", got.Method, got.URL, body, id)
	}
}

// Row 73: what is remembered, how long, and that it holds for one token only.
func TestRow73Memory(t *testing.T) {
	r := newAsking(t)
	asked := func() int { return r.server.count("/introspect") }
	t.Run("row 73 a good answer for 30 s", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active())
		token := opaque()
		before := asked()
		r.accepts(request("Bearer", token))
		r.clock.pass(29 * time.Second)
		r.says(object{"active": false})
		r.accepts(request("Bearer", token))
		if n := asked() - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
		r.clock.pass(time.Second)
		r.refuses(request("Bearer", token), "token.inactive")
	})
	t.Run("row 73 never beyond the token's end", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active(object{"exp": r.clock.now().Add(10 * time.Second).Unix()}))
		token := opaque()
		r.accepts(request("Bearer", token))
		r.clock.pass(10 * time.Second)
		r.says(object{"active": false})
		r.refuses(request("Bearer", token), "token.inactive")
	})
	t.Run("row 73 a bad answer for 5 s", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(object{"active": false})
		token := opaque()
		before := asked()
		r.refuses(request("Bearer", token), "token.inactive")
		r.clock.pass(4 * time.Second)
		r.refuses(request("Bearer", token), "token.inactive")
		if n := asked() - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
		r.clock.pass(time.Second)
		r.says(r.active())
		r.accepts(request("Bearer", token))
	})
	t.Run("row 73 another token, a longer one, a shorter one", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active())
		token := opaque()
		r.accepts(request("Bearer", token))
		r.says(object{"active": false})
		for _, other := range []string{token + "x", token[:len(token)-1], strings.ToUpper(token)} {
			r.refuses(request("Bearer", other), "token.inactive")
		}
		r.accepts(request("Bearer", token))
	})
	t.Run("row 73 what is remembered for one site is judged by the next", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active())
		token := opaque()
		r.accepts(request("Bearer", token))
		q := request("Bearer", token)
		q.Host = "other.hospital.example"
		r.refuses(q, "token.aud")
		r.site = &Site{Issuers: r.site.Issuers}
		r.refuses(request("Bearer", token), "token.unbound")
	})
	t.Run("row 73 a clock that was set back", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active())
		token := opaque()
		r.accepts(request("Bearer", token))
		r.clock.pass(-time.Second)
		r.says(object{"active": false})
		r.refuses(request("Bearer", token), "token.inactive")
		r.clock.pass(2 * time.Second)
		r.refuses(request("Bearer", token), "token.inactive") // the older answer is gone
	})
	t.Run("row 73 a caller cannot change what is remembered", func(t *testing.T) {
		r := newRigClock(t, r)
		r.says(r.active(object{"scope": "a", "amr": []string{"pwd"}, "roles": []string{"grp-physicians"}}))
		token := opaque()
		caller := r.accepts(request("Bearer", token))
		caller.Scopes[0], caller.AMR[0], caller.Roles[0] = "admin", "hwk", "admin"
		if again := r.accepts(request("Bearer", token)); again.Scopes[0] != "a" || again.AMR[0] != "pwd" || again.Roles[0] != "doctor" {
			t.Errorf("%+v", again)
		}
	})
}

// Row 73: memory is bounded, and made-up tokens push out no good ones.
func TestRow73Bounds(t *testing.T) {
	a := newAnswers(&Issuer{}, Introspection{})
	now := time.Unix(1e9, 0)
	good := sha256.Sum256([]byte("good"))
	a.remember(good, answer{facts: facts{expires: now.Add(time.Hour)}}, now)
	for n := range 3 * maxAnswers {
		a.remember(sha256.Sum256(fmt.Append(nil, n)), answer{err: no("token.inactive")}, now)
	}
	if len(a.bad) > maxAnswers || len(a.good) != 1 {
		t.Errorf("%d good and %d bad answers are kept", len(a.good), len(a.bad))
	}
	if _, ok := a.recall(good, now); !ok {
		t.Error("made-up tokens pushed a good one out")
	}
	for n := range 3 * maxAnswers {
		a.remember(sha256.Sum256(fmt.Append(nil, n)), answer{facts: facts{expires: now.Add(time.Hour)}}, now)
	}
	if len(a.good) > maxAnswers {
		t.Errorf("%d good answers are kept", len(a.good))
	}
	t.Run("what is over goes first", func(t *testing.T) {
		a.remember(good, answer{facts: facts{expires: now.Add(2 * time.Hour)}}, now.Add(time.Minute))
		if _, ok := a.recall(good, now.Add(time.Minute)); !ok {
			t.Error("an answer that holds went before those that do not")
		}
		if len(a.good) > maxAnswers-maxDropScan+1 {
			t.Errorf("%d are kept", len(a.good))
		}
	})
	t.Run("a failure is not remembered", func(t *testing.T) {
		name := sha256.Sum256([]byte("failed"))
		a.remember(name, answer{err: &identity.Failure{Kind: identity.ErrUnavailable}}, now)
		if _, ok := a.recall(name, now); ok {
			t.Error("it is")
		}
	})
}

// Row 73: one question for all who ask about one token at one time; and so many at
// most for all tokens.
func TestRow73SingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := 0
		release := make(chan struct{})
		i, err := New(Config{Name: "a", Issuer: "https://login.example", Introspection: &Introspection{URL: "https://login.example/i", ClientID: "c", ClientSecret: "s"},
			Fetch: issuer.ClientConfig{HTTPClient: &http.Client{Transport: tripper(func(q *http.Request) (*http.Response, error) {
				mu.Lock()
				asked++
				mu.Unlock()
				select {
				case <-release:
				case <-q.Context().Done():
					return nil, q.Context().Err()
				}
				body := `{"active":true,"token_type":"Bearer","sub":"s","client_id":"c","aud":"` + audience + `","exp":` + fmt.Sprint(time.Now().Add(time.Hour).Unix()) + `}`
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
			})}}})
		if err != nil {
			t.Fatal(err)
		}
		site := &Site{Issuers: []*Issuer{i}, Unbound: true}
		// One gives up: the others get their answer all the same.
		ctx, cancel := context.WithCancel(context.Background())
		results := make(chan error, 200)
		ask := func(ctx context.Context, token string) {
			_, err := site.Check(ctx, request("Bearer", token))
			results <- err
		}
		go ask(ctx, "one")
		synctest.Wait()
		for range 50 {
			go ask(context.Background(), "one")
		}
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("the one that gave up: %v", err)
		}
		if asked != 1 {
			t.Errorf("%d questions about one token", asked)
		}
		for n := range maxAsked + 10 {
			go ask(context.Background(), fmt.Sprint("other", n))
		}
		synctest.Wait()
		if asked != maxAsked {
			t.Errorf("%d questions at one time", asked)
		}
		for range 11 {
			if err := <-results; identity.Reason(err) != "introspection.busy" {
				t.Errorf("one too many: %v", err)
			}
		}
		close(release)
		for range 50 + maxAsked - 1 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if len(i.answers.asked) != 0 {
			t.Errorf("%d questions stay open", len(i.answers.asked))
		}
	})
}

// An issuer that introspects judges its JWTs that way, too; and nobody else's.
func TestRow73JWTs(t *testing.T) {
	r := newAsking(t)
	r.says(r.active())
	payload := text(changed(r.claims(), object{"cnf": nil}))
	asked := func() int { return r.server.count("/introspect") }
	t.Run("row 73 a JWT of the issuer", func(t *testing.T) {
		for n, typ := range []string{"at+jwt", "JWT"} {
			r.accepts(request("Bearer", signed(r.client, text(object{"alg": "ES256", "kid": fmt.Sprint(n), "typ": typ}), payload)))
		}
		if asked() != 2 || r.server.count("/jwks") != 0 {
			t.Errorf("asked %d times", asked())
		}
	})
	before := asked()
	t.Run("J31 other kinds are not shown to it", func(t *testing.T) {
		for _, typ := range []string{"dpop+jwt", "logout+jwt", "anteroom+jwt", "anteroom-assertion+jwt"} {
			r.refuses(request("Bearer", signed(r.server.key, text(object{"alg": "ES256", "typ": typ}), payload)), "token.typ")
		}
	})
	t.Run("J67 nor those of another issuer", func(t *testing.T) {
		r.refuses(request("Bearer", signed(r.server.key, tokenHeader, text(changed(r.claims(), object{"iss": "https://other.example"})))), "token.iss")
		r.refuses(request("Bearer", signed(r.server.key, tokenHeader, text(changed(r.claims(), object{"iss": nil})))), "token.iss")
	})
	t.Run("J1 J4 J6 nor what looks like a JWT and is none", func(t *testing.T) {
		good := signed(r.server.key, tokenHeader, payload)
		head, _, _ := cutLast(good)
		for token, reason := range map[string]string{
			head + ".":                     "token.malformed",
			head:                           "token.malformed",
			good + ".x.y":                  "token.malformed",
			b64(`{"alg":"none"}`) + ".e30": "token.malformed",
			b64(`{"alg":"none"}`) + "." + b64(payload) + ".AAAA":              "token.alg",
			b64(`{"alg":"HS256"}`) + "." + b64(payload) + ".AAAA":             "token.alg",
			b64(` {"alg":"ES256","jwk":{}}`) + "." + b64(payload) + ".AAAA":   "token.malformed",
			b64("\n\n{\"alg\":\"ES256\"}") + "." + b64(payload+"x") + ".AAAA": "token.malformed",
		} {
			r.refuses(request("Bearer", token), reason)
		}
	})
	if asked() != before {
		t.Errorf("the issuer was shown %d tokens that are none of its own", asked()-before)
	}
	t.Run("opaque tokens may have dots", func(t *testing.T) { r.accepts(request("Bearer", "v4.public.abc")) })
	t.Run("two issuers that introspect", func(t *testing.T) {
		other := newAsking(t)
		site := &Site{Issuers: []*Issuer{r.issuer, other.issuer}, Unbound: true}
		if site.Valid() == nil {
			t.Error("nobody says that an opaque token has two homes")
		}
		r.site = site
		before := asked()
		r.unavailable(request("Bearer", opaque()), "bearer.ambiguous")
		if asked() != before || other.server.total() != 0 {
			t.Error("a token was shown to somebody")
		}
	})
}
