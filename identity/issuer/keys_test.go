package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

var quiet = log.New(io.Discard, "", 0)

func reasonOf(err error) string {
	if k, ok := errors.AsType[*KeyError](err); ok {
		return k.Reason
	}
	return identity.Reason(err)
}

// publisher is an issuer that publishes keys and can be made to fail.
type publisher struct {
	mu     sync.Mutex
	keys   []map[string]any
	status int
	asked  atomic.Int32
	now    time.Time
	log    bytes.Buffer
	set    *Keys
}

func publish(t *testing.T, algs []string, keys ...map[string]any) *publisher {
	t.Helper()
	p := &publisher{keys: keys, status: 200, now: time.Unix(1_800_000_000, 0)}
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		w.WriteHeader(p.status)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
	})
	p.set = NewKeys(KeysConfig{
		Client: clientOf(t, ClientConfig{Issuer: server.URL}), URL: server.URL + "/jwks", Algs: algs,
		Now:    func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
		Logger: slog.New(slog.NewTextHandler(&p.log, nil)),
	})
	return p
}

func (p *publisher) change(status int, pass time.Duration, keys ...map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.now = status, p.now.Add(pass)
	if keys != nil {
		p.keys = keys
	}
}

func newKey(t *testing.T, kid string) (*ecdsa.PrivateKey, map[string]any) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, idptest.JWK(key.Public(), kid, "ES256")
}

func token(t *testing.T, key *ecdsa.PrivateKey, kid string) *jws.Token {
	t.Helper()
	header := map[string]any{}
	if kid != "" {
		header["kid"] = kid
	}
	compact, err := jws.SignWith(key, "ES256", header, map[string]any{"sub": "x"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jws.Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func (p *publisher) verify(t *testing.T, token *jws.Token) error {
	t.Helper()
	return p.set.Verify(t.Context(), token)
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if got := reasonOf(err); got != reason || (reason != "" && err == nil) || (reason == "" && err != nil) {
		t.Fatalf("got %v, want %q", err, reason)
	}
}

// Rows 42, 43, 45 and C29: which key is chosen.
func TestKeysChosen(t *testing.T) {
	a, jwkA := newKey(t, "a")
	b, jwkB := newKey(t, "b")
	_, foreign := newKey(t, "a")
	t.Run("by its name", func(t *testing.T) {
		p := publish(t, []string{"ES256"}, jwkA, jwkB)
		wantReason(t, p.verify(t, token(t, a, "a")), "")
		wantReason(t, p.verify(t, token(t, b, "b")), "")
		wantReason(t, p.verify(t, token(t, b, "a")), "signature")
	})
	t.Run("R45 C6 the only one without a name", func(t *testing.T) {
		p := publish(t, []string{"ES256"}, jwkA)
		wantReason(t, p.verify(t, token(t, a, "")), "")
		wantReason(t, p.verify(t, token(t, b, "")), "signature")
	})
	t.Run("R45 C7 several without a name", func(t *testing.T) {
		p := publish(t, []string{"ES256"}, jwkA, jwkB)
		wantReason(t, p.verify(t, token(t, a, "")), "key_ambiguous")
	})
	t.Run("N32 R46 two of one name", func(t *testing.T) {
		p := publish(t, []string{"ES256"}, jwkA, foreign)
		wantReason(t, p.verify(t, token(t, a, "a")), "key")
		if !strings.Contains(p.log.String(), "its kid stands at two keys") {
			t.Error("nobody is told")
		}
	})
	t.Run("R24 an algorithm that is not accepted", func(t *testing.T) {
		p := publish(t, []string{"RS256"}, jwkA)
		wantReason(t, p.verify(t, token(t, a, "a")), "alg")
		if p.asked.Load() != 0 {
			t.Error("it cost a request")
		}
	})
}

// Row 43 and C28: an unknown name fetches the set once, and good tokens go on.
func TestR43Rotation(t *testing.T) {
	a, jwkA := newKey(t, "a")
	b, jwkB := newKey(t, "b")
	p := publish(t, []string{"ES256"}, jwkA)
	wantReason(t, p.verify(t, token(t, a, "a")), "")
	p.change(200, 0, jwkB)
	wantReason(t, p.verify(t, token(t, b, "b")), "")
	wantReason(t, p.verify(t, token(t, a, "a")), "key")
	if n := p.asked.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// Row N34: a thousand made-up names cost at most one request a minute, and good
// tokens wait for none of them.
func TestN34UnknownNames(t *testing.T) {
	a, jwkA := newKey(t, "a")
	p := publish(t, []string{"ES256"}, jwkA)
	good := token(t, a, "a")
	wantReason(t, p.verify(t, good), "")
	var group sync.WaitGroup
	for i := range 1000 {
		bad := token(t, a, fmt.Sprintf("made-up-%d", i))
		group.Go(func() {
			if err := p.set.Verify(t.Context(), bad); reasonOf(err) != "key" {
				t.Errorf("got %v", err)
			}
		})
	}
	group.Wait()
	wantReason(t, p.verify(t, good), "")
	if n := p.asked.Load(); n > 2 {
		t.Errorf("%d requests, want at most 2", n)
	}
	for minute := range 5 {
		p.change(200, MissRefetch)
		for range 50 {
			wantReason(t, p.verify(t, token(t, a, fmt.Sprintf("later-%d", minute))), "key")
		}
	}
	if n := p.asked.Load(); n > 7 {
		t.Errorf("%d requests in six minutes", n)
	}
}

// Row N33: the keys' server is down.
func TestN33KeysDown(t *testing.T) {
	a, jwkA := newKey(t, "a")
	good := token(t, a, "a")
	t.Run("N33 not cached", func(t *testing.T) {
		p := publish(t, []string{"ES256"}, jwkA)
		p.change(503, 0)
		for range 10 {
			err := p.verify(t, good)
			wantReason(t, err, "jwks.unreachable")
			if !errors.Is(err, identity.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
		}
		if n := p.asked.Load(); n != 1 {
			t.Errorf("%d requests in a moment, want 1", n)
		}
		p.change(200, FailureFresh)
		wantReason(t, p.verify(t, good), "")
	})
	t.Run("N33 cached, to the maximum age", func(t *testing.T) {
		p := publish(t, []string{"ES256"}, jwkA)
		wantReason(t, p.verify(t, good), "")
		p.change(503, KeysFresh)
		for range 5 {
			wantReason(t, p.verify(t, good), "")
		}
		if n := p.asked.Load(); n != 2 {
			t.Errorf("%d requests, want one more", n)
		}
		p.change(503, KeysKeep-KeysFresh-time.Second)
		wantReason(t, p.verify(t, good), "")
		p.change(503, time.Second)
		wantReason(t, p.verify(t, good), "jwks.unreachable")
		if !strings.Contains(p.log.String(), "level=ERROR") {
			t.Error("nobody is told")
		}
	})
}

// Rows N37 and 44: a key that was taken away stops verifying when the set is
// fetched anew, within the hour.
func TestN37RemovedKey(t *testing.T) {
	a, jwkA := newKey(t, "a")
	_, jwkB := newKey(t, "b")
	p := publish(t, []string{"ES256"}, jwkA, jwkB)
	good := token(t, a, "a")
	wantReason(t, p.verify(t, good), "")
	p.change(200, KeysFresh-time.Second, jwkB)
	wantReason(t, p.verify(t, good), "")
	p.change(200, time.Second)
	wantReason(t, p.verify(t, good), "key")
	n, err := p.set.Count(t.Context())
	if n != 1 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
}

// A set is refused whole or key by key, and one bad key spoils no other.
func TestN32KeySet(t *testing.T) {
	a, jwkA := newKey(t, "a")
	good := token(t, a, "a")
	for name, beside := range map[string]map[string]any{
		"N32 symmetric":        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "a"},
		"N32 for encryption":   with(idptest.JWK(otherKey(t).Public(), "a", "ES256"), "use", "enc"),
		"N32 unknown kind":     {"kty": "AKP", "kid": "a"},
		"N32 RSA of 1024 bits": with(idptest.JWK(rsaKey(t).Public(), "a", "RS256"), "n", strings.Repeat("A", 170)+"w"),
		"R46 private":          with(idptest.JWK(otherKey(t).Public(), "a", "ES256"), "d", "AQAB"),
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, []string{"ES256", "RS256"}, beside, jwkA)
			wantReason(t, p.verify(t, good), "")
		})
	}
	t.Run("N32 10 000 keys", func(t *testing.T) {
		many := []map[string]any{jwkA}
		for len(many) < 10_000 {
			many = append(many, map[string]any{"kty": "x"})
		}
		p := publish(t, []string{"ES256"}, many...)
		wantReason(t, p.verify(t, good), "jwks.malformed")
	})
}
