package oidc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func event(name string, value any) idptest.Fault {
	return claim("events", map[string]any{name: value})
}

func all(faults ...idptest.Fault) []idptest.Fault { return faults }

func wantNoEnd(t *testing.T, e identity.Ended, err error, reason string) {
	t.Helper()
	wantFailure(t, identity.Identity{}, err, identity.ErrRefused, reason)
	if e != (identity.Ended{}) {
		t.Fatalf("a failure says %+v", e)
	}
}

// Row B1: a good token, with an unknown claim beside, and what it says.
func TestB1LogoutToken(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	subject, sid := r.server.Last()
	for name, c := range map[string]struct {
		faults []idptest.Fault
		want   identity.Ended
	}{
		"both":                        {nil, identity.Ended{Subject: subject, Session: sid}},
		"B17 sub only":                {all(idptest.DropClaims("sid")), identity.Ended{Subject: subject}},
		"sid only":                    {all(idptest.DropClaims("sub")), identity.Ended{Session: sid}},
		"R55 no type":                 {all(idptest.Header(func(h map[string]any) { delete(h, "typ") })), identity.Ended{Subject: subject, Session: sid}},
		"R55 typed JWT":               {all(header("typ", "JWT")), identity.Ended{Subject: subject, Session: sid}},
		"R55 typed with application/": {all(header("typ", "application/LOGOUT+jwt")), identity.Ended{Subject: subject, Session: sid}},
		"aud in a list":               {all(claim("aud", []string{r.server.ClientID})), identity.Ended{Subject: subject, Session: sid}},
		"something in the event":      {all(event(logoutEvent, map[string]any{"x": 1})), identity.Ended{Subject: subject, Session: sid}},
		"ES256":                       {all(idptest.SignWith("ES256")), identity.Ended{Subject: subject, Session: sid}},
		"azp and nbf are not needed":  {all(claim("nbf", r.server.Now().Unix())), identity.Ended{Subject: subject, Session: sid}},
	} {
		t.Run(name, func(t *testing.T) {
			earliest := r.server.Now().Truncate(time.Second)
			e, err := r.source.Logout(t.Context(), r.server.LogoutToken(t, c.faults...))
			if err != nil {
				t.Fatal(err)
			}
			if e.Subject != c.want.Subject || e.Session != c.want.Session || e.Token == "" || e.Issued.Before(earliest) || e.Issued.After(r.server.Now()) || e.Expires.Sub(e.Issued) != 2*time.Minute {
				t.Errorf("got %+v, want %+v", e, c.want)
			}
		})
	}
}

// Rows B2 to B13 and requirements 54 and 55: what no logout token may be.
func TestLogoutRows(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	now := r.server.Now()
	for _, c := range []struct {
		name, reason string
		faults       []idptest.Fault
	}{
		{"B2 alg none", "logout.malformed", all(idptest.SignWith("none"))},
		{"B2 HS256", "logout.alg", all(idptest.SignWith("HS256"))},
		{"B3 no events", "logout.events", all(idptest.DropClaims("events"))},
		{"B4 nonce", "logout.nonce", all(claim("nonce", "n"))},
		{"B4 nonce null", "logout.nonce", all(claim("nonce", nil))},
		{"B4 nonce empty", "logout.nonce", all(claim("nonce", ""))},
		{"B4 nonce a number", "logout.nonce", all(claim("nonce", 0))},
		{"B4 nonce in an escaped spelling", "logout.nonce", all(member(`"n\u006fnce":"x"`))},
		{"B6 aud", "logout.aud", all(claim("aud", r.server.ClientID+"INVALID"))},
		{"B6 aud with somebody else", "logout.aud", all(claim("aud", []string{r.server.ClientID, "other"}))},
		{"B6 aud empty", "logout.aud", all(claim("aud", []string{}))},
		{"B7 another event", "logout.events", all(event("http://schemas.openid.net/event/foobar", map[string]any{}))},
		{"B7 another event besides", "logout.events", all(claim("events", map[string]any{logoutEvent: map[string]any{}, "http://schemas.openid.net/event/foobar": map[string]any{}}))},
		{"B7 the event in another case", "logout.events", all(event(strings.ToUpper(logoutEvent), map[string]any{}))},
		{"B7 the event with a slash", "logout.events", all(event(logoutEvent+"/", map[string]any{}))},
		{"B8 iss", "logout.iss", all(claim("iss", "https://other.example"))},
		{"B8 iss with a slash", "logout.iss", all(claim("iss", r.server.URL+"/"))},
		{"B8 iss missing", "logout.iss", all(idptest.DropClaims("iss"))},
		{"B8 iss a list", "logout.iss", all(claim("iss", []string{r.server.URL}))},
		{"B9 signature", "logout.signature", all(idptest.Compact(swapEnd))},
		{"B9 unknown key", "logout.key", all(header("kid", "other"))},
		{"B11 events an array", "logout.events", all(claim("events", []string{logoutEvent}))},
		{"B11 events a string", "logout.events", all(claim("events", logoutEvent))},
		{"B11 events null", "logout.events", all(claim("events", nil))},
		{"B11 events empty", "logout.events", all(claim("events", map[string]any{}))},
		{"B11 event null", "logout.events", all(event(logoutEvent, nil))},
		{"B11 event a string", "logout.events", all(event(logoutEvent, "{}"))},
		{"B11 event an array", "logout.events", all(event(logoutEvent, []any{}))},
		{"B11 event true", "logout.events", all(event(logoutEvent, true))},
		{"B12 jti missing", "logout.jti", all(idptest.DropClaims("jti"))},
		{"B12 jti empty", "logout.jti", all(claim("jti", ""))},
		{"B12 jti a number", "logout.jti", all(claim("jti", 5))},
		{"B12 jti with NUL", "logout.jti", all(claim("jti", "a\x00b"))},
		{"B12 jti of 256 bytes", "logout.jti", all(claim("jti", strings.Repeat("j", 256)))},
		{"B12 iat missing", "logout.iat", all(idptest.DropClaims("iat"))},
		{"B12 iat a string", "logout.iat", all(claim("iat", "1"))},
		{"B12 exp missing", "logout.exp", all(idptest.DropClaims("exp"))},
		{"B12 aud missing", "logout.aud", all(idptest.DropClaims("aud"))},
		{"B12 neither sub nor sid", "logout.sub", all(idptest.DropClaims("sub", "sid"))},
		{"B12 sub empty", "logout.sub", all(claim("sub", ""))},
		{"B12 sub null", "logout.sub", all(claim("sub", nil))},
		{"B12 sub with a line break", "logout.sub", all(claim("sub", "a\nb"))},
		{"B12 sid empty", "logout.sid", all(claim("sid", ""))},
		{"B12 sid a list", "logout.sid", all(claim("sid", []string{"s"}))},
		{"B12 sid with a line break", "logout.sid", all(claim("sid", "a\r\nb"))},
		{"B12 sid of 256 bytes", "logout.sid", all(claim("sid", strings.Repeat("s", 256)))},
		{"B13 exp past", "logout.exp", all(claim("iat", now.Add(-170*time.Second).Unix()), claim("exp", now.Add(-skew).Unix()))},
		{"B13 iat old", "logout.iat", all(claim("iat", now.Add(-maxLogoutAge-skew-time.Second).Unix()))},
		{"B13 iat in the future", "logout.iat", all(claim("iat", now.Add(skew+2*time.Second).Unix()))},
		{"B13 life too long", "logout.exp", all(claim("exp", now.Add(maxLogoutLife+2*time.Second).Unix()))},
		{"B13 exp at iat", "logout.exp", all(claim("exp", now.Unix()))},
		{"B13 not yet", "logout.nbf", all(claim("nbf", now.Add(2*skew).Unix()))},
		{"B23 encrypted", "logout.malformed", all(idptest.Compact(func(c string) string { return c + ".AAAA.AAAA" }))},
		{"R55 access token", "logout.typ", all(header("typ", "at+jwt"))},
		{"R55 proof of possession", "logout.typ", all(header("typ", "dpop+jwt"))},
		{"R55 session of ours", "logout.typ", all(header("typ", "anteroom+jwt"))},
		{"R55 another security event", "logout.typ", all(header("typ", "secevent+jwt"))},
		{"J22 a key in the header", "logout.malformed", all(header("jwk", map[string]any{"kty": "oct", "k": "AA"}))},
		{"J41 events twice", "logout.malformed", all(member(`"events":{}`))},
		{"J51 too long", "logout.malformed", all(claim("x", strings.Repeat("x", 9000)))},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := r.source.Logout(t.Context(), r.server.LogoutToken(t, c.faults...))
			wantNoEnd(t, e, err, c.reason)
		})
	}
}

// Requirement 55: where the configuration demands the type, nothing else will do.
func TestR55TypedLogout(t *testing.T) {
	r := newRig(t, func(c *Config) { c.TypedLogout = true })
	r.accepts(t)
	if _, err := r.source.Logout(t.Context(), r.server.LogoutToken(t)); err != nil {
		t.Error(err)
	}
	for name, fault := range map[string]idptest.Fault{
		"absent": idptest.Header(func(h map[string]any) { delete(h, "typ") }), "JWT": header("typ", "JWT"), "at+jwt": header("typ", "at+jwt"),
	} {
		t.Run(name, func(t *testing.T) {
			e, err := r.source.Logout(t.Context(), r.server.LogoutToken(t, fault))
			wantNoEnd(t, e, err, "logout.typ")
		})
	}
}

// Row B9: another provider's key says nothing here, whatever the claims.
func TestB9OtherProvider(t *testing.T) {
	r, other := newRig(t, nil), newRig(t, nil)
	r.accepts(t)
	other.server.Rotate() // the first keys are shared by all of these servers
	other.accepts(t)
	e, err := r.source.Logout(t.Context(), other.server.LogoutToken(t, claim("iss", r.server.URL)))
	wantNoEnd(t, e, err, "logout.key")
	e, err = r.source.Logout(t.Context(), other.server.LogoutToken(t))
	wantNoEnd(t, e, err, "logout.iss")
}

// Row B21 the other way round, and requirement 36: a token of another kind is no
// logout token.
func TestB21OtherKinds(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t)
	var h held
	if err := json.Unmarshal(who.Keep, &h); err != nil {
		t.Fatal(err)
	}
	e, err := r.source.Logout(t.Context(), h.ID)
	wantNoEnd(t, e, err, "logout.nonce")
	now := r.server.Now().Unix()
	access := map[string]any{"iss": r.server.URL, "aud": r.server.ClientID, "sub": "x", "jti": "a", "iat": now, "exp": now + 60, "client_id": "x"}
	e, err = r.source.Logout(t.Context(), r.server.Sign(t, "at+jwt", access))
	wantNoEnd(t, e, err, "logout.typ")
	e, err = r.source.Logout(t.Context(), r.server.Sign(t, "JWT", access))
	wantNoEnd(t, e, err, "logout.events")
}

// Rows N37 and B9: a key that was taken away does not end sessions either, once the
// new set is known.
func TestN37LogoutByRemovedKey(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	r.server.Pass(issuer.KeysFresh - 10*time.Second)
	token := r.server.LogoutToken(t)
	if _, err := r.source.Logout(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	r.server.Rotate()
	r.server.Pass(10 * time.Second)
	e, err := r.source.Logout(t.Context(), token)
	wantNoEnd(t, e, err, "logout.key")
}

// Row B22: rubbish costs neither a signature nor a request, and many unknown keys
// cost one request a minute.
func TestB22CheapRefusals(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	fresh := r.another(t, nil) // has fetched nothing
	r.server.Forget()
	for _, token := range []string{
		"", "x", strings.Repeat(".", 1<<20), strings.Repeat("A", 1<<20),
		r.server.LogoutToken(t, header("typ", "at+jwt")), r.server.LogoutToken(t, idptest.DropClaims("events")),
		r.server.LogoutToken(t, claim("iss", "x")), r.server.LogoutToken(t, claim("aud", "x")), r.server.LogoutToken(t, claim("exp", 1)),
	} {
		if e, err := fresh.Logout(t.Context(), token); err == nil || e != (identity.Ended{}) {
			t.Fatalf("%.40q: %+v, %v", token, e, err)
		}
	}
	if n := r.server.Count(idptest.AtMetadata) + r.server.Count(idptest.AtKeys); n != 0 {
		t.Errorf("rubbish made us send %d requests", n)
	}
	for i := range 100 {
		_, err := r.source.Logout(t.Context(), r.server.LogoutToken(t, header("kid", strings.Repeat("k", i+1))))
		wantFailure(t, identity.Identity{}, err, identity.ErrRefused, "logout.key")
	}
	if n := r.server.Count(idptest.AtKeys); n > 1 {
		t.Errorf("%d requests for the keys, want at most 1", n)
	}
}

// A provider that cannot be asked for its keys: nothing is known, and nothing ends.
func TestLogoutWithoutKeys(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	token := r.server.LogoutToken(t)
	for _, at := range []idptest.Endpoint{idptest.AtMetadata, idptest.AtKeys} {
		fresh := r.another(t, nil)
		r.server.Use(idptest.Status(at, 503))
		e, err := fresh.Logout(t.Context(), token)
		if !isUnavailable(err) || e != (identity.Ended{}) {
			t.Errorf("%s: got %+v, %v", at, e, err)
		}
	}
}

// The boundaries of time, to the second.
func TestB13Boundaries(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	now := time.Unix(r.server.Now().Unix(), 0)
	r.source.now = func() time.Time { return now }
	for _, c := range []struct {
		iat, exp time.Duration
		ok       bool
	}{
		{0, 2 * time.Minute, true},
		{-maxLogoutAge - skew, time.Minute, true}, {-maxLogoutAge - skew - time.Second, time.Minute, false},
		{skew, 2 * time.Minute, true}, {skew + time.Second, 2 * time.Minute, false},
		{0, maxLogoutLife, true}, {0, maxLogoutLife + time.Second, false},
		{-2 * time.Minute, -skew + time.Second, true}, {-2 * time.Minute, -skew, false},
		{0, 0, false}, {0, -time.Second, false},
	} {
		token := r.server.LogoutToken(t, claim("iat", now.Add(c.iat).Unix()), claim("exp", now.Add(c.exp).Unix()))
		if _, err := r.source.Logout(t.Context(), token); (err == nil) != c.ok {
			t.Errorf("iat %v, exp %v: %v, want accepted %v", c.iat, c.exp, err, c.ok)
		}
	}
}

// Row J78 for logout tokens: no byte of one can be another one.
func TestJ78LogoutAnyByte(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	token := r.server.LogoutToken(t)
	try := func(changed string) {
		if e, err := r.source.Logout(t.Context(), changed); err == nil {
			t.Fatalf("accepted: %+v", e)
		}
	}
	for i := range token {
		for _, c := range []byte("Aa0_.-=\x00") {
			if c != token[i] {
				try(token[:i] + string(rune(c)) + token[i+1:])
			}
		}
		try(token[:i] + token[i+1:])
		try(token[:i] + "A" + token[i:])
	}
}

// fuzzClock is when the seeds of FuzzLogoutToken are good.
var fuzzClock = time.Unix(1_800_000_000, 0)

// FuzzLogoutToken: whatever claims a provider signs, sessions end only by a token
// that says so in every respect.
func FuzzLogoutToken(f *testing.F) {
	s, err := New(Config{Name: "hospital", Issuer: "https://login.example", Client: Client{ID: "anteroom", Secret: "s"},
		Now: func() time.Time { return fuzzClock }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		object, err := issuer.ParseObject([]byte(payload))
		if err != nil {
			return
		}
		e, err := s.checkLogout(object)
		if err != nil {
			if identity.Reason(err) == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		var plain map[string]any
		if err := json.Unmarshal([]byte(payload), &plain); err != nil {
			t.Fatal(err)
		}
		events, _ := plain["events"].(map[string]any)
		_, named := events[logoutEvent].(map[string]any)
		_, nonce := plain["nonce"]
		sub, _ := plain["sub"].(string)
		sid, _ := plain["sid"].(string)
		switch {
		case nonce, !named, plain["iss"] != "https://login.example":
			t.Fatalf("accepted %q", payload)
		case e.Subject == "" && e.Session == "", e.Subject != sub, e.Session != sid, e.Token == "":
			t.Fatalf("%q gives %+v", payload, e)
		case fuzzClock.Sub(e.Issued) > 3*time.Minute, e.Issued.Sub(fuzzClock) > time.Minute, e.Expires.Sub(e.Issued) > 10*time.Minute:
			t.Fatalf("%q gives %+v", payload, e)
		}
	})
}

// The seeds of the fuzz target hold tokens of both kinds.
func TestLogoutFuzzSeeds(t *testing.T) {
	s, err := New(Config{Name: "hospital", Issuer: "https://login.example", Client: Client{ID: "anteroom", Secret: "s"},
		Now: func() time.Time { return fuzzClock }})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/fuzz/FuzzLogoutToken/*")
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(b), "\n")
		text = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "string("), ")")
		var payload string
		if err := json.Unmarshal([]byte(text), &payload); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if object, err := issuer.ParseObject([]byte(payload)); err == nil {
			if _, err := s.checkLogout(object); err == nil {
				good++
			}
		}
	}
	if good < 3 || len(files)-good < 3 {
		t.Errorf("%d of %d seeds are good", good, len(files))
	}
}
