package hardening

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Wrapper is a key management service that wraps a ring's file key: a ring that it wraps opens on every node that may ask
// it, whatever became of the TLS keys. context is authenticated with the wrapped key and is the same for both calls.
type Wrapper interface {
	// ID names the key: its stanza is found by it.
	ID() string
	Wrap(ctx context.Context, plain []byte, context map[string]string) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte, context map[string]string) ([]byte, error)
}

const (
	// kmsTimeout bounds one question to the KMS: a look at the ring must not hang on it.
	kmsTimeout = 5 * time.Second
	// kmsPause is the time between two tries to wrap for a KMS that does not answer.
	kmsPause = 30 * time.Second
)

// kmsID is the stanza's name: the hexadecimal SHA-256 of the key's own, which may be long and tell an account's number.
func kmsID(w Wrapper) string {
	sum := sha256.Sum256([]byte(w.ID()))
	return hex.EncodeToString(sum[:])
}

func kmsContext(ring string) map[string]string {
	return map[string]string{"service": "anteroom", "purpose": "hardening-ring", "ring": ring}
}

// wrapKMS wraps a file key and unwraps it again: what does not come back must not count as a recipient.
func (r *Ring) wrapKMS(ctx context.Context, ring string, fileKey []byte) (stanza, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	ct, err := r.cfg.KMS.Wrap(ctx, slices.Clone(fileKey), kmsContext(ring))
	if err != nil {
		return stanza{}, fmt.Errorf("wrapping ring %q by the KMS: %w", r.cfg.Name, err)
	}
	back, err := r.cfg.KMS.Unwrap(ctx, ct, kmsContext(ring))
	defer clear(back)
	if err != nil {
		return stanza{}, fmt.Errorf("unwrapping ring %q by the KMS: %w", r.cfg.Name, err)
	}
	if !sameKey(back, fileKey) {
		return stanza{}, fmt.Errorf("wrapping ring %q by the KMS: it gave another key back", r.cfg.Name)
	}
	return stanza{Type: stanzaKMS, KID: kmsID(r.cfg.KMS), CT: ct}, nil
}

// unwrapKMS returns nil and no error when the ring is wrapped for no KMS key. One of another name is tried as well: an alias
// and the key that it stands for are two names.
func (r *Ring) unwrapKMS(ctx context.Context, f ringFile) ([]byte, error) {
	if r.cfg.KMS == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	var problems []error
	for _, s := range f.Stanzas {
		if s.Type != stanzaKMS {
			continue
		}
		fileKey, err := r.cfg.KMS.Unwrap(ctx, s.CT, kmsContext(f.Ring))
		if err == nil && len(fileKey) == fileKeySize {
			return fileKey, nil
		}
		if err == nil {
			err = errors.New("it gave back no key of 32 bytes")
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

// updateKMS makes the configured KMS key, and no other, a recipient. A KMS that does not answer is no trouble as long as
// something else opens the ring: the poll tries again.
func (r *Ring) updateKMS(ctx context.Context, o *openRing, keys []TLSKey) (changed bool, err error) {
	others := func(s stanza) bool { return s.Type == stanzaKMS && (r.cfg.KMS == nil || s.KID != kmsID(r.cfg.KMS)) }
	rest := slices.DeleteFunc(slices.Clone(o.file.Stanzas), others)
	if r.cfg.KMS == nil {
		without := openRing{file: ringFile{Stanzas: rest}}
		if len(rest) == len(o.file.Stanzas) || !without.opens(keys) {
			return false, nil // a KMS that left the configuration stays while nothing else opens the ring
		}
		r.cfg.Logger.Warn("the KMS no longer opens the password ring", "ring", r.cfg.Name)
		o.file.Stanzas = rest
		return true, nil
	}
	if slices.ContainsFunc(rest, func(s stanza) bool { return s.Type == stanzaKMS }) {
		changed = len(rest) != len(o.file.Stanzas)
		o.file.Stanzas = rest
		return changed, nil
	}
	now, needed := r.cfg.Now(), !o.opens(keys)
	if !needed && now.Before(r.kmsAgain) {
		return false, nil
	}
	s, err := r.wrapKMS(ctx, o.file.Ring, o.fileKey)
	if err != nil && needed {
		return false, fmt.Errorf("%w: %w", ErrWaiting, err)
	}
	if err != nil {
		r.kmsAgain = now.Add(kmsPause)
		r.cfg.Logger.Warn("the password ring could not be wrapped by the KMS; it is tried again", "ring", r.cfg.Name, "error", err)
		return false, nil
	}
	o.file.Stanzas = append(rest, s)
	return true, nil
}
