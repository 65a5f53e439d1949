package hardening

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"time"
)

// waitReady is how long a request waits for the ring, for a slow hash and for another try of its uid.
const waitReady = 5 * time.Second

// Result is the answer to a [Verification]. The zero value is "no".
type Result struct {
	// Match says that the secret is the one that the record was made from, for this uid and context.
	Match bool
	// NeedsRehash says that a better record can be had; Record holds it then. Only ever set with Match.
	NeedsRehash bool
	// Record replaces the stored one when NeedsRehash is set.
	Record string
}

// Protect makes one record for each item, in order, or an error and none. It spends one unit for each.
func (s *Service) Protect(ctx context.Context, items []Item) ([]string, error) {
	if len(items) == 0 || len(items) > maxItems {
		return nil, fmt.Errorf("protecting: %w: not 1 to %d items", ErrInput, maxItems)
	}
	for i, item := range items {
		if err := item.check(); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	ring, err := s.ready(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Limits.spend(len(items)); err != nil {
		return nil, err
	}
	records := make([]string, len(items))
	for i, item := range items {
		if err := s.takeSlot(ctx); err != nil {
			return nil, err
		}
		records[i] = ring.protect(item)
		s.slots.give()
	}
	return records, nil
}

// protect makes a record under the newest pepper. Its caller holds a slot.
func (o *openRing) protect(item Item) string {
	r := record{ring: o.file.Ring, layers: []string{o.body.Primary}, context: item.Context, salt: newSalt()}
	r.tag = innerTag(o.key(o.body.Primary), item.Context, item.UID, r.salt, slowHash(item.Secret, r.salt))
	return r.String()
}

// Verify compares one secret with one record. A record of another ring is [ErrForeign], never a plain "no". Wrong secrets
// of one uid are slowed down, and stopped, before any work is done for them.
func (s *Service) Verify(ctx context.Context, v Verification) (Result, error) {
	if err := v.check(); err != nil {
		return Result{}, err
	}
	ring, err := s.ready(ctx)
	if err != nil {
		return Result{}, err
	}
	rec, err := readStored(ring, v)
	if err != nil {
		return Result{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	uid := ring.uidKey(v.UID)
	if err := s.cfg.Limits.begin(waiting, uid); err != nil {
		return Result{}, err
	}
	result := notTried
	defer func() { s.cfg.Limits.end(uid, result) }()
	if err := s.cfg.Limits.spend(len(rec.layers)); err != nil {
		return Result{}, err
	}
	if err := s.takeSlot(ctx); err != nil {
		return Result{}, err
	}
	defer s.slots.give()
	tag := innerTag(ring.key(rec.layers[0]), v.Context, v.UID, rec.salt, slowHash(v.Secret, rec.salt))
	for _, id := range rec.layers[1:] {
		tag = overTag(ring.key(id), tag)
	}
	// The context is bound by the tag; comparing it besides keeps a record from claiming another one.
	if subtle.ConstantTimeCompare(tag, rec.tag)&subtle.ConstantTimeCompare([]byte(rec.context), []byte(v.Context)) != 1 {
		result = wrong
		return Result{}, nil
	}
	result = right
	if slices.Equal(rec.layers, []string{ring.body.Primary}) {
		return Result{Match: true}, nil
	}
	return Result{Match: true, NeedsRehash: true, Record: ring.protect(v.Item)}, nil
}

// readStored reads the record of a verification; "-" becomes one that nothing matches.
func readStored(ring *openRing, v Verification) (record, error) {
	if v.Record == "-" {
		r := record{ring: ring.file.Ring, layers: []string{ring.body.Primary}, context: v.Context, salt: newSalt(), tag: make([]byte, tagSize)}
		rand.Read(r.tag)
		return r, nil
	}
	rec, err := parseRecord(v.Record)
	if err != nil {
		return record{}, err
	}
	if rec.ring != ring.file.Ring {
		return record{}, fmt.Errorf("reading record: %w", ErrForeign)
	}
	for _, id := range rec.layers {
		if ring.key(id) == nil {
			return record{}, fmt.Errorf("reading record: %w: this ring has no pepper %s", ErrForeign, id)
		}
	}
	return rec, nil
}

// Original answers the original form: the digest under the pinned key, 64 upper-case hexadecimal digits. It spends one unit
// for each round. rounds is 1 to the configured cap.
func (s *Service) Original(ctx context.Context, password []byte, rounds int) (string, error) {
	if rounds < 1 || rounds > s.cfg.MaxRounds {
		return "", fmt.Errorf("answering the original form: %w: rounds are not in 1..%d", ErrInput, s.cfg.MaxRounds)
	}
	ring, err := s.ready(ctx)
	if err != nil {
		return "", err
	}
	key := ring.key(ring.body.Compat)
	if key == nil {
		return "", fmt.Errorf("answering the original form: %w: its key is not pinned yet", ErrWaiting)
	}
	if err := s.cfg.Limits.spendOriginal(rounds); err != nil {
		return "", err
	}
	return original(key, password, rounds), nil
}

func (s *Service) ready(ctx context.Context) (*openRing, error) {
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	return s.cfg.Ring.wait(ctx)
}

func (s *Service) takeSlot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	return s.slots.take(ctx)
}

// uidKey is the keyed hash that stands for a uid. Without the ring nobody can tell whose it is.
func (o *openRing) uidKey(uid string) (k uidKey) {
	mac := hmac.New(sha256.New, o.body.UIDKey)
	mac.Write(lp(lp(nil, labelUID), uid))
	copy(k[:], mac.Sum(nil))
	return k
}

func (k uidKey) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }
