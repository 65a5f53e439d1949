package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// ring is a sealer with several keys, as package envelope has: a sealed value begins with
// the letter of its key. What a condemned key sealed is opened by Reseal only.
type ring struct {
	mu        sync.Mutex // guards what follows
	primary   byte
	condemned map[byte]bool
	destroyed map[byte]bool
}

func newRing() *ring {
	return &ring{primary: 'a', condemned: map[byte]bool{}, destroyed: map[byte]bool{}}
}

// condemn makes the next letter the primary and condemns the one of before.
func (r *ring) condemn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.condemned[r.primary] = true
	r.primary++
}

// destroy leaves the primary alone.
func (r *ring) destroy() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := byte('a'); k < r.primary; k++ {
		r.destroyed[k] = true
	}
}

func (r *ring) now() byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.primary
}

// stale reports whether another key than the primary sealed it.
func (r *ring) stale(sealed []byte) bool { return len(sealed) == 0 || sealed[0] != r.now() }

func (r *ring) Seal(ctx context.Context, label string, b []byte) ([]byte, error) {
	k := r.now()
	sealed, err := sealer([]byte{k}).Seal(ctx, label, b)
	return append([]byte{k}, sealed...), err
}

var errCondemned = errors.New("sealed under a condemned key")

func (r *ring) Open(ctx context.Context, label string, b []byte) ([]byte, error) {
	if len(b) > 0 {
		r.mu.Lock()
		condemned := r.condemned[b[0]]
		r.mu.Unlock()
		if condemned {
			return nil, errCondemned
		}
	}
	return r.open(ctx, label, b)
}

func (r *ring) open(ctx context.Context, label string, b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errors.New("empty")
	}
	r.mu.Lock()
	destroyed := r.destroyed[b[0]]
	r.mu.Unlock()
	if destroyed {
		return nil, fmt.Errorf("key %c is destroyed", b[0])
	}
	return sealer(b[:1]).Open(ctx, label, b[1:])
}

func (r *ring) Reseal(ctx context.Context, label string, b []byte) ([]byte, bool, error) {
	if !r.stale(b) {
		return bytes.Clone(b), false, nil
	}
	plain, err := r.open(ctx, label, b)
	if err != nil {
		return nil, false, err
	}
	out, err := r.Seal(ctx, label, plain)
	return out, err == nil, err
}
