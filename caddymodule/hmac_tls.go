package caddymodule

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
)

// keyring finds the TLS keys of one subject.
type keyring struct {
	subject string

	mu      sync.Mutex // guards pending
	pending []hardening.TLSKey
}

// live returns the subject's TLS keys: those in Caddy's certificate cache, newest certificate first, and those of a renewal
// that the ring has not taken over yet. It is the ring's question at every look.
func (k *keyring) live(context.Context) ([]hardening.TLSKey, error) {
	keys, err := k.served()
	k.mu.Lock()
	defer k.mu.Unlock()
	keys = append(keys, k.pending...)
	if len(keys) > 0 {
		return keys, nil
	}
	return nil, err
}

// ringKeys are the TLS keys that the service's ring is wrapped for: its own subject's first, and those of the subjects whose
// services use the same ring, so that each of them can open it. Without a key of its own it waits: the original form's key
// is pinned to that one.
func (h *HMACService) ringKeys(ctx context.Context) ([]hardening.TLSKey, error) {
	keys, err := h.keys.live(ctx)
	if len(keys) == 0 {
		return nil, err
	}
	for _, other := range h.app.registered() {
		if other != h && other.Ring == h.Ring {
			more, _ := other.keys.live(ctx) // its own look reports what is wrong with it
			keys = append(keys, more...)
		}
	}
	return keys, nil
}

// served reads the cache. The subject's own certificates hide those of a wildcard, as in a handshake.
func (k *keyring) served() ([]hardening.TLSKey, error) {
	certs := matching(k.subject)
	if own := slices.DeleteFunc(slices.Clone(certs), func(c certmagic.Certificate) bool { return !slices.Contains(c.Names, k.subject) }); len(own) > 0 {
		certs = own
	}
	slices.SortStableFunc(certs, func(a, b certmagic.Certificate) int { return begin(b).Compare(begin(a)) })
	var keys []hardening.TLSKey
	var problems []error
	for _, c := range certs {
		key, err := tlsKeyOf(c.PrivateKey, end(c))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		keys = append(keys, key)
	}
	return keys, errors.Join(problems...)
}

// tlsKeyOf takes keys that cannot be exported as well: the ring knows them by name, and opens by the KMS.
func tlsKeyOf(key crypto.PrivateKey, notAfter time.Time) (hardening.TLSKey, error) {
	k, err := hardening.NewTLSKey(key, notAfter)
	signer, ok := key.(crypto.Signer)
	if err == nil || !ok {
		return k, err
	}
	switch key.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return k, err // it could be exported and is broken
	}
	return hardening.HardwareKey(signer, notAfter)
}

// matching is Caddy's lookup. It dereferences nil when the last tls app is gone, which happens while a stopping config's
// goroutines still run: no certificate then, and not the end of the process.
func matching(subject string) (certs []certmagic.Certificate) {
	defer func() {
		if recover() != nil {
			certs = nil
		}
	}()
	return caddytls.AllMatchingCertificates(subject)
}

func begin(c certmagic.Certificate) time.Time {
	if c.Leaf == nil {
		return time.Time{}
	}
	return c.Leaf.NotBefore
}

func end(c certmagic.Certificate) time.Time {
	if c.Leaf == nil {
		return time.Time{}
	}
	return c.Leaf.NotAfter
}

// renewal is the handler of the event cert_obtained. Its fields are unexported, so that the events app, which prints its
// handlers at DEBUG, has nothing to print.
type renewal struct {
	service *HMACService
	ctx     caddy.Context
}

// followRenewals subscribes to the event that tells of a new certificate before it is served: the moment, and the only one,
// at which old and new key are both at hand; and to the one before it, at which a renewal can still be put off.
func (h *HMACService) followRenewals(ctx caddy.Context) error {
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("%s: following renewals: %w", h.where(), err)
	}
	app := events.(*caddyevents.App)
	if err := errors.Join(app.On("cert_obtained", &renewal{h, ctx}), app.On("cert_obtaining", &obtaining{h, ctx})); err != nil {
		return fmt.Errorf("%s: following renewals: %w", h.where(), err)
	}
	return nil
}

// obtaining is the handler of the event cert_obtaining, the only one that can stop a renewal. certmagic tries again with its
// back-off.
type obtaining struct {
	service *HMACService
	ctx     caddy.Context
}

// Handle puts a renewal off while the ring opens by the old key alone and could not be wrapped for the new one. It never does
// so for a first certificate, nor for one that is about to end (hardening.Ring.MayRenew).
func (o *obtaining) Handle(_ context.Context, e caddy.Event) error {
	k := &o.service.keys
	if renewing, _ := e.Data["renewal"].(bool); !renewing || !k.names(e.Data) {
		return nil
	}
	remaining, _ := e.Data["remaining"].(time.Duration) // of another kind: 0, and no veto
	if o.service.ring.MayRenew(remaining, k.lifetime()) == nil {
		return nil
	}
	o.service.look(o.ctx) // what was wrong a moment ago may be over
	if err := o.service.ring.MayRenew(remaining, k.lifetime()); err != nil {
		return fmt.Errorf("%s: %w: %w", o.service.where(), err, caddy.ErrEventAborted)
	}
	return nil
}

// names reports whether an event is about this subject's certificate.
func (k *keyring) names(data map[string]any) bool {
	name, _ := data["identifier"].(string)
	return name == k.subject || certmagic.MatchWildcard(k.subject, name)
}

// lifetime is that of the newest certificate, 0 when there is none.
func (k *keyring) lifetime() (longest time.Duration) {
	for _, c := range matching(k.subject) {
		longest = max(longest, end(c).Sub(begin(c)))
	}
	return longest
}

// Handle wraps the ring for the new key. It runs before the key is served and may take its time for that. It never vetoes:
// a site must not lose its certificate for this, and the ring's poll tries again with what is kept here.
func (r *renewal) Handle(_ context.Context, e caddy.Event) error {
	k := &r.service.keys
	if !k.names(e.Data) {
		return nil
	}
	keys, err := k.served() // the old one: after this event it is gone
	if err != nil {
		r.service.logger.Warn("reading the TLS keys before a renewal", "error", err)
	}
	next, err := loadKey(r.ctx, e.Data)
	if err != nil {
		r.service.logger.Warn("the renewed TLS key could not be read early; the next look finds it", "error", err)
	} else {
		keys = append(keys, next)
	}
	k.keep(keys)
	r.service.look(r.ctx)
	return nil
}

// loadKey reads the new key from the storage, where it lies already.
func loadKey(ctx caddy.Context, data map[string]any) (hardening.TLSKey, error) {
	keyPath, _ := data["private_key_path"].(string)
	certPath, _ := data["certificate_path"].(string)
	raw, err := ctx.Storage().Load(ctx, keyPath)
	if err != nil {
		return hardening.TLSKey{}, fmt.Errorf("loading key: %w", err)
	}
	defer clear(raw)
	key, err := certmagic.PEMDecodePrivateKey(raw)
	if err != nil {
		return hardening.TLSKey{}, errors.New("loading key: it is not a private key in PEM") // the cause could quote it
	}
	chain, err := ctx.Storage().Load(ctx, certPath)
	if err != nil {
		return hardening.TLSKey{}, fmt.Errorf("loading certificate: %w", err)
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return hardening.TLSKey{}, errors.New("loading certificate: it is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return hardening.TLSKey{}, fmt.Errorf("loading certificate: %w", err)
	}
	return hardening.NewTLSKey(key, leaf.NotAfter)
}

// keep holds keys until the ring has a stanza for each.
func (k *keyring) keep(keys []hardening.TLSKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pending = append(k.pending, keys...)
	if len(k.pending) > maxPending { // a store that is away for many renewals
		k.pending = slices.Delete(k.pending, 0, len(k.pending)-maxPending)
	}
}

const maxPending = 16

// taken drops the first n kept keys, which a successful look has wrapped the ring for.
func (k *keyring) taken(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pending = slices.Delete(k.pending, 0, min(n, len(k.pending)))
}

func (k *keyring) waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pending)
}

// look brings the ring up to date once. The ring itself tells the operator of trouble.
func (h *HMACService) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	n := h.keys.waiting()
	if h.ring.Sync(ctx) == nil {
		h.keys.taken(n)
	}
}

// lookTimeout bounds how long a start or a renewal waits for the ring.
const lookTimeout = 5 * time.Second
