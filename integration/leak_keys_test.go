package integration

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	bits "encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	sessions "github.com/anteroom-proxy/anteroom/session"
)

// plantKey knows the secret of the site's TLS key, not what it shares with its certificate; and the key of the original form.
func (l *leak) plantKey(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(l.names["$KEY"])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	l.secrets.plant(t, "TLS key", d, "/site.key")
	l.secrets.plant(t, "TLS key as a number", []byte(new(big.Int).SetBytes(d).String()))
	effective := sha256.Sum256(text)
	l.secrets.plant(t, "key of the original form", effective[:])
}

func (l *leak) recoverySecret(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "recovery.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, half, _ := strings.Cut(string(text), "SECRET-X25519:")
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(half))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var longText = regexp.MustCompile(`[A-Za-z0-9_+/=-]{24,}`)

// plantMaster knows what stands in the key file.
func (l *leak) plantMaster(t *testing.T, text []byte) {
	t.Helper()
	if len(text) == 32 {
		l.secrets.plant(t, "master key", text, "/master.key")
		return
	}
	words := longText.FindAll(text, -1)
	if len(words) == 0 {
		t.Fatalf("the key file has %d bytes of an unknown form", len(text))
	}
	for _, word := range words {
		l.secrets.plant(t, "master key", word, "/master.key")
	}
}

// plantRing knows the peppers: the ring that was exported opens with the recovery key.
func (l *leak) plantRing(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(l.dir, "ring.export"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		V         int    `json:"anteroom_ring_export"`
		Ring      string `json:"ring"`
		Epoch     uint64 `json:"epoch"`
		Recipient string `json:"recipient"`
		Sealed    []byte `json:"sealed"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	sealed := f.Sealed
	f.Sealed = nil
	header := []byte(mustJSON(f))
	var info []byte
	for _, part := range [][]byte{[]byte("anteroom/hardening/ring-export/v1"), header} {
		info = append(bits.BigEndian.AppendUint32(info, uint32(len(part))), part...)
	}
	key, err := hpke.DHKEM(ecdh.X25519()).NewPrivateKey(l.recoverySecret(t))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		UIDKey   []byte `json:"uid_key"`
		Versions []struct {
			ID  string
			Key []byte
		}
	}
	if err := json.Unmarshal(plain, &body); err != nil || len(body.Versions) == 0 {
		t.Fatalf("the ring has no versions: %v", err)
	}
	l.secrets.plant(t, "the ring's key for uids", body.UIDKey)
	for _, v := range body.Versions {
		l.secrets.plant(t, "pepper "+v.ID, v.Key)
	}
}

var seed = regexp.MustCompile(`"seed":"([A-Za-z0-9+/_-]+)=*"`)

// plantSeeds knows the private keys that sign sessions and assertions: they are in the store, of a program that does not run, sealed.
func (l *leak) plantSeeds(t *testing.T) {
	t.Helper()
	d, closeDisk := openDisk(t, filepath.Join(l.dataDir(), "anteroom"))
	defer closeDisk()
	found := 0
	for key, value := range d.sealed(t) {
		label, _ := sessions.SealedAt(key)
		plain, err := d.envelope.Open(t.Context(), label, value)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		for _, m := range seed.FindAllSubmatch(plain, -1) {
			raw, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(string(m[1])))
			if err != nil || len(raw) != 32 {
				t.Fatalf("a seed of %d bytes: %v", len(raw), err)
			}
			found++
			l.secrets.plant(t, fmt.Sprintf("signing key %.4x", sha256.Sum256(raw)), raw)
		}
	}
	if found < 2 {
		t.Errorf("only %d signing keys are in the store", found)
	}
}
