package redis_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// form is one way to run Redis. Each is started once for all tests that only use it;
// tests that break something start their own.
type form struct {
	name  string
	start func(redistest.TB, ...redistest.Option) *redistest.Server
	once  sync.Once
	up    *redistest.Server
}

var forms = []*form{
	{name: "standalone", start: redistest.Standalone},
	{name: "sentinel", start: redistest.Sentinel},
	{name: "cluster", start: redistest.Cluster},
}

// tb ends the shared servers after all tests.
var tb, end = redistest.Outside()

func TestMain(m *testing.M) {
	code := m.Run()
	end()
	os.Exit(code)
}

func (f *form) shared(t *testing.T) *redistest.Server {
	t.Helper()
	if redistest.Missing() != nil {
		f.start(t) // skips, or fails with CI=true
	}
	f.once.Do(func() { f.up = f.start(tb, redistest.Secure(), redistest.Prefix("*")) })
	return f.up
}

// eachForm runs test in a subtest for each form, on the shared servers.
func eachForm(t *testing.T, test func(t *testing.T, server *redistest.Server)) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) { test(t, f.shared(t)) })
	}
}

var prefixes atomic.Int64

// config is for a server, with a prefix of its own.
func config(t testing.TB, server *redistest.Server) redis.Config {
	t.Helper()
	c, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if server.CA != "" {
		pem, err := os.ReadFile(server.CA)
		if err != nil {
			t.Fatal(err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		c.TLS.RootCAs.AppendCertsFromPEM(pem)
	}
	c.Prefix = fmt.Sprintf("test%d", prefixes.Add(1))
	c.Sealer = sealer("master key")
	return c
}

func open(t testing.TB, c redis.Config) *redis.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sealer is AES-GCM under a key made of its text, bound to the label.
type sealer string

func (k sealer) aead(label string) cipher.AEAD {
	key := sha256.Sum256([]byte(string(k) + "\x00" + label))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (k sealer) Seal(_ context.Context, label string, b []byte) ([]byte, error) {
	return k.aead(label).Seal(nil, nil, b, nil), nil
}

func (k sealer) Open(_ context.Context, label string, b []byte) ([]byte, error) {
	if plain, err := k.aead(label).Open(nil, nil, b, nil); err == nil {
		return plain, nil
	}
	return nil, errors.New("does not open")
}
