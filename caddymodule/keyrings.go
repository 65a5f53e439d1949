package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
)

// The rings of data keys: "own" seals what Anteroom stores, "apps" what applications have sealed.
const (
	ringOwn  = "own"
	ringApps = "apps"
)

// masters is what the rings' data keys are wrapped with.
type masters struct {
	master envelope.Master
	former []envelope.Master
	key    string        // of the settings that it was opened with
	age    time.Duration // how long a data key is used without asking the master again; zero: the default
	uses   int64         // and how many times
	dir    string        // where this node notes what it has seen of the rings; "": nowhere
}

// openingAudit takes what envelopes do not open: the log of the config that began last. Envelopes outlive configs.
var openingAudit lateAudit

// ringMark keeps the epoch of a ring beside the master key, as feed.mark does for the revocation feed.
type ringMark struct{ markFile }

func (m ringMark) String() string { return m.path }

func (m masters) mark(store, ring string) envelope.Mark {
	if m.dir == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(store + "\x00" + ring))
	return ringMark{markFile{path: filepath.Join(m.dir, "ring.mark"), store: hex.EncodeToString(sum[:8])}}
}

// ring reads or makes a ring; store names where it lies. Nothing follows it yet. When the master is away (away) there is an
// envelope besides the error: it seals and opens nothing until it is started, which following it does.
func (m masters) ring(ctx context.Context, store, name string, keys envelope.KeyStore, logger *slog.Logger) (*envelope.Envelope, error) {
	e, err := m.ringLater(ctx, store, name, keys, logger)
	if err != nil {
		return nil, err
	}
	return e, e.Start(ctx)
}

// ringLater makes an envelope that begins when it is followed.
func (m masters) ringLater(_ context.Context, store, name string, keys envelope.KeyStore, logger *slog.Logger) (*envelope.Envelope, error) {
	return envelope.New(envelope.Config{
		Name: name, Master: m.master, Former: m.former, Store: keys, CacheAge: m.age, CacheUses: m.uses, Mark: m.mark(store, name), Logger: logger,
		Audit: &openingAudit,
		// Applications reseal what is theirs when they can; until the key is destroyed they must be able to read it.
		OpenCondemned: name == ringApps, Cache: cacheCounts[name],
	})
}

// cacheCounts counts for each ring what data keys are asked for, in the whole process.
var cacheCounts = map[string]*envelope.CacheCounts{ringOwn: {}, ringApps: {}}

// sealedStore is an open store with the envelope that seals what lies in it, and the place of the rings.
type sealedStore struct {
	store.Store
	envelope *envelope.Envelope
	keys     envelope.KeyStore
	late     error // why the envelope has not begun yet
}

// redisClient is the client that a store and a certificate storage share. The ring lies beside what it seals; it is followed for as
// long as the client lives.
type redisClient struct {
	*redis.Store
	envelope *envelope.Envelope
	keys     envelope.KeyStore
	master   string // of which settings
}

// follow keeps envelopes in step with the other nodes until stop is called, which waits for the end.
func follow(envelopes ...*envelope.Envelope) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, len(envelopes))
	for _, e := range envelopes {
		go func() {
			e.Follow(ctx)
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range envelopes {
			<-done
		}
	}
}
