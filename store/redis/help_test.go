package redis_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

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
	if spec := os.Getenv(resealEnv); spec != "" {
		if err := resealChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	// Tests of faults wait for servers most of the time, not for a processor.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
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

func open(t testing.TB, c redis.Config) *redis.Store { return opened(t, c, redis.Open) }

// patient is open for tests of what has nothing to do with time.
func patient(t testing.TB, c redis.Config) *redis.Store { return opened(t, c, redis.OpenPatient) }

func opened(t testing.TB, c redis.Config, open func(context.Context, redis.Config) (*redis.Store, error)) *redis.Store {
	t.Helper()
	s, err := open(t.Context(), c)
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

// raw is a client with the rights of the store's user, for looking and for harm.
func raw(t *testing.T, c redis.Config) goredis.UniversalClient {
	t.Helper()
	client := goredis.NewUniversalClient(&goredis.UniversalOptions{
		Addrs: c.Addresses, MasterName: c.Master, IsClusterMode: c.Cluster, Username: c.Username, Password: c.Password, TLSConfig: c.TLS,
		DisableIdentity: true, Protocol: 2,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// names are the names in Redis that begin with the prefix.
func names(t *testing.T, c redis.Config) []string {
	t.Helper()
	var mu sync.Mutex // guards all
	var all []string
	scan := func(ctx context.Context, node *goredis.Client) error {
		it := node.Scan(ctx, 0, c.Prefix+":*", 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			all = append(all, it.Val())
			mu.Unlock()
		}
		return it.Err()
	}
	var err error
	switch client := raw(t, c).(type) {
	case *goredis.ClusterClient:
		err = client.ForEachMaster(t.Context(), scan)
	case *goredis.Client:
		err = scan(t.Context(), client)
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// is checks the class of an error.
func is(t *testing.T, err, class error, doing string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("%s: error is %v; want %v", doing, err, class)
	}
}

// clock is a clock that tests move.
type clock struct{ atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time               { return time.Unix(0, c.Load()).UTC() }
func (c *clock) in(d time.Duration) time.Time { return c.now().Add(d) }
func (c *clock) advance(d time.Duration)      { c.Add(int64(d)) }
