package hardening

import (
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/anteroom-proxy/anteroom/store"
)

// The two kinds of recovery key (RFC 9180 KEMs). X25519 is short enough for a line of configuration; the hybrid with
// ML-KEM-768 also keeps a stolen ring closed to somebody with a quantum computer.
const (
	x25519Size = 32
	hybridSize = 1216
	// The secret half announces itself, so that nobody pastes it where the public half belongs.
	secretX25519 = "ANTEROOM-RECOVERY-SECRET-X25519:"
	secretHybrid = "ANTEROOM-RECOVERY-SECRET-MLKEM768-X25519:"
)

// RecoveryRecipient is the public half of an offline key that can always open the ring.
type RecoveryRecipient struct {
	pub hpke.PublicKey
	id  string
}

// ParseRecoveryRecipient reads the public half: base64url without padding, 32 bytes (X25519) or 1216 (ML-KEM-768 with
// X25519). The key is tried at once: one that cannot be sealed to must not be found out when it is needed.
func ParseRecoveryRecipient(text string) (*RecoveryRecipient, error) {
	if strings.Contains(text, "ANTEROOM-RECOVERY-SECRET") { // the line alone, or the whole file
		return nil, errors.New("reading recovery key: this is the secret half; write the public half here, keep the secret off-line, and make a new pair if it was ever in a configuration")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, errors.New("reading recovery key: not base64url; make a pair with 'anteroom keys ring recovery-key --out FILE' and write the line that it prints")
	}
	kem := hpke.DHKEM(ecdh.X25519())
	switch len(raw) {
	case x25519Size:
	case hybridSize:
		kem = hpke.MLKEM768X25519()
	default:
		return nil, fmt.Errorf("reading recovery key: %d bytes where %d (X25519) or %d (ML-KEM-768 with X25519) are wanted; make a pair with 'anteroom keys ring recovery-key --out FILE'", len(raw), x25519Size, hybridSize)
	}
	pub, err := kem.NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("reading recovery key: %w", err)
	}
	return newRecipient(pub)
}

func newRecipient(pub hpke.PublicKey) (*RecoveryRecipient, error) {
	sum := sha256.Sum256(pub.Bytes())
	r := &RecoveryRecipient{pub: pub, id: hex.EncodeToString(sum[:])}
	if _, err := r.seal("", nil); err != nil {
		return nil, fmt.Errorf("reading recovery key: %w", err)
	}
	return r, nil
}

// String is the public half as a configuration holds it.
func (r *RecoveryRecipient) String() string {
	return base64.RawURLEncoding.EncodeToString(r.pub.Bytes())
}

func (r *RecoveryRecipient) seal(ring string, fileKey []byte) ([]byte, error) {
	return hpke.Seal(r.pub, hpke.HKDFSHA256(), hpke.AES256GCM(), lp(lp(nil, labelRecovery), ring), fileKey)
}

// RecoveryKey is the secret half. It prints as a fixed word; Text is the only way out.
type RecoveryKey struct{ priv hpke.PrivateKey }

// GenerateRecoveryKey makes a pair, the hybrid kind when asked for.
func GenerateRecoveryKey(hybrid bool) (*RecoveryKey, error) {
	kem := hpke.DHKEM(ecdh.X25519())
	if hybrid {
		kem = hpke.MLKEM768X25519()
	}
	priv, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("making recovery key: %w", err)
	}
	return &RecoveryKey{priv}, nil
}

// ParseRecoveryKey reads the text that [RecoveryKey.Text] wrote; lines that begin with # are comments.
func ParseRecoveryKey(text []byte) (*RecoveryKey, error) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		kem, rest := hpke.DHKEM(ecdh.X25519()), ""
		if after, ok := strings.CutPrefix(line, secretX25519); ok {
			rest = after
		} else if after, ok := strings.CutPrefix(line, secretHybrid); ok {
			kem, rest = hpke.MLKEM768X25519(), after
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
		if err != nil || rest == "" {
			break
		}
		priv, err := kem.NewPrivateKey(raw)
		clear(raw)
		if err != nil {
			break
		}
		return &RecoveryKey{priv}, nil
	}
	// The causes could quote the secret.
	return nil, errors.New("reading recovery key: the file is not one that 'anteroom keys ring recovery-key' wrote")
}

// Recipient is the public half.
func (k *RecoveryKey) Recipient() (*RecoveryRecipient, error) {
	return newRecipient(k.priv.PublicKey())
}

// Text is the secret half as a file: keep it off-line. Whoever holds it and a copy of the store has the peppers.
func (k *RecoveryKey) Text() ([]byte, error) {
	raw, err := k.priv.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing recovery key: %w", err)
	}
	defer clear(raw)
	prefix := secretX25519
	if k.priv.KEM().ID() != hpke.DHKEM(ecdh.X25519()).ID() {
		prefix = secretHybrid
	}
	pub := base64.RawURLEncoding.EncodeToString(k.priv.PublicKey().Bytes())
	return []byte("# Anteroom recovery key: opens password rings. Keep it off-line.\n# public half: " + pub + "\n" +
		prefix + base64.RawURLEncoding.EncodeToString(raw) + "\n"), nil
}

// Format prints a fixed word for every verb.
func (k *RecoveryKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "recovery key (redacted)") }

// LogValue keeps the secret out of structured logs.
func (k *RecoveryKey) LogValue() slog.Value { return slog.StringValue("recovery key (redacted)") }

// MarshalJSON writes a fixed word.
func (k *RecoveryKey) MarshalJSON() ([]byte, error) { return []byte(`"recovery key (redacted)"`), nil }

func (k *RecoveryKey) open(ring string, ct []byte) ([]byte, error) {
	return hpke.Open(k.priv, hpke.HKDFSHA256(), hpke.AES256GCM(), lp(lp(nil, labelRecovery), ring), ct)
}

// Recover opens a locked ring with the offline key and wraps it for the live TLS keys in cfg. Nothing else in the ring
// changes: every record stays valid. The service opens the ring at its next look.
func Recover(ctx context.Context, cfg RingConfig, secret *RecoveryKey) error {
	return recoverRing(ctx, cfg, secret, nil)
}

// recoverRing is Recover beside a service that may hold the ring as it was before. What the recovery key opens must go on from
// that: everybody can seal a ring of his own to its public half.
func recoverRing(ctx context.Context, cfg RingConfig, secret *RecoveryKey, held *openRing) error {
	if secret == nil {
		return errors.New("recovering ring: no recovery key")
	}
	cfg.Recovery, cfg.NoRecovery = nil, true // recipients of the configuration are the service's to keep
	r, err := NewRing(cfg)
	if err != nil {
		return fmt.Errorf("recovering ring: %w", err)
	}
	r.secret, r.open = secret, held
	if keys, err := cfg.Keys(ctx); err != nil || len(keys) == 0 {
		return errors.Join(errors.New("recovering ring: no TLS key to wrap it for"), err)
	}
	if err := r.Sync(ctx); err != nil {
		return fmt.Errorf("recovering ring: %w", err)
	}
	return nil
}

// Recover opens a locked ring where its service runs, and wraps it for the TLS keys that are live: several nodes may share the
// store, and none of them has to stop.
func (r *Ring) Recover(ctx context.Context, secret *RecoveryKey) error {
	if err := recoverRing(ctx, r.cfg, secret, r.held()); err != nil {
		return err
	}
	if err := r.Sync(ctx); err != nil {
		return fmt.Errorf("recovering ring: %w", err)
	}
	return nil
}

// OnlyRing returns the name of the ring in a store that has exactly one.
func OnlyRing(ctx context.Context, st store.Store) (string, error) {
	items, err := st.List(ctx, labelStore+"/")
	if err != nil {
		return "", fmt.Errorf("listing rings: %w", err)
	}
	var names []string
	for _, item := range items {
		names = append(names, strings.TrimPrefix(item.Key, labelStore+"/"))
	}
	if len(names) != 1 {
		return "", fmt.Errorf("listing rings: the store has %d rings, not one: %q", len(names), names)
	}
	return names[0], nil
}
