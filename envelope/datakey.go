package envelope

import (
	"crypto/hkdf"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// dataKey is one data key in memory. The zero value derives nothing.
type dataKey struct {
	ring   string // the ring that it is in
	id     [keyIDLen]byte
	derive func(info string, n int) ([]byte, error) // the key is inside it and nowhere else, see secret.go
	master string
	remote bool      // the master is another machine: limits of age and use hold
	since  time.Time // when the master last gave it to us
	uses   atomic.Int64

	mu      sync.RWMutex // guards ciphers
	ciphers map[string]func() *xaes
}

// maxCiphers bounds how many labels have their cipher in memory. Ours are a dozen; those
// of documents are as many as documents, and derive anew.
const maxCiphers = 64

func newDataKey(ring string, id [keyIDLen]byte, key *secret, master string, remote bool, now time.Time) *dataKey {
	return &dataKey{ring: ring, id: id, master: master, remote: remote, since: now, ciphers: map[string]func() *xaes{}, derive: func(info string, n int) ([]byte, error) {
		return deriveFrom(key, info, n)
	}}
}

func deriveFrom(key *secret, info string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, key[:], nil, info, n)
}

// cipher makes or finds the cipher of one label.
func (k *dataKey) cipher(label string) (*xaes, error) {
	k.mu.RLock()
	found := k.ciphers[label]
	k.mu.RUnlock()
	if found != nil {
		return found(), nil
	}
	key, err := k.derive(labelData+"\x00"+k.ring+"\x00"+label, keyLen)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	x, err := newXAES(key)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ciphers) < maxCiphers {
		k.ciphers[label] = func() *xaes { return x }
	}
	return x, nil
}

// spent reports whether the master has to be asked again; with part = 2 it answers for half
// of the limits.
func (k *dataKey) spent(now time.Time, c Config, part int64) bool {
	if !k.remote {
		return false
	}
	return older(k.since, now, c.CacheAge/time.Duration(part)) || k.uses.Load() >= c.CacheUses/part
}

// older reports whether more than d has gone by since. The monotonic clock stands still
// while a machine sleeps and the wall clock can be set: the one that says more counts, and
// a wall clock that was set back says that nothing is known.
func older(since, now time.Time, d time.Duration) bool {
	wall := now.Round(0).Sub(since.Round(0))
	return now.Sub(since) > d || wall > d || wall < -time.Second
}
