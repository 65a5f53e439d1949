package hardening

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	fileKeySize = 32
	pepperSize  = 32
	maxStanzas  = 64
	// keepStanza is how long a TLS key goes on opening the ring after its certificate's end: time for a machine that was
	// off, and the end of the usefulness of a leaked old key for later copies of the ring.
	keepStanza = 7 * 24 * time.Hour
	stanzaTLS  = "tls"
	// stanzaRecovery is the type of the offline key's stanza.
	stanzaRecovery = "recovery"
	// stanzaKMS is the type of a key management service's stanza.
	stanzaKMS = "kms"
	// A ring is written in the first version of the format while that says all of it.
	formatPlain, formatStates = 1, 2
)

// ringFile is what stands in the store. Everything but Body is public, and all of it is associated data of Body: a stanza
// added, removed or changed by somebody without the file key makes the ring unreadable instead of quietly his.
type ringFile struct {
	V       int      `json:"v"`     // 1, or 2 when the body has more than version 1 could say
	Ring    string   `json:"ring"`  // random, in every record
	Epoch   uint64   `json:"epoch"` // rises with every write
	Stanzas []stanza `json:"stanzas"`
	Body    []byte   `json:"body,omitempty"` // nonce and AES-256-GCM ciphertext of ringBody under the file key
}

// stanza is the file key, wrapped for one recipient.
type stanza struct {
	Type     string    `json:"type"`
	KID      string    `json:"kid"`                // hexadecimal SHA-256 of the recipient's public key, or of the KMS key's name
	NotAfter time.Time `json:"not_after,omitzero"` // tls: end of the certificate
	CT       []byte    `json:"ct"`
}

// ringBody is the secret part.
type ringBody struct {
	Primary  string    `json:"primary"`          // version of new records
	Compat   string    `json:"compat,omitempty"` // pinned version of the original form, d:<kid16>
	UIDKey   []byte    `json:"uid_key"`          // key of the hash that stands for a uid
	Versions []version `json:"versions"`
	Banned   []string  `json:"banned,omitempty"` // compromised keys: never a recipient again
	Census   *Census   `json:"census,omitempty"` // the last finished one
}

// openRing is an opened ring: what the store holds, and what is in it. It is immutable once published.
type openRing struct {
	file    ringFile // without Body
	body    ringBody
	fileKey []byte
	sum     [sha256.Size]byte // of the bytes in the store
}

// String keeps secrets out of every message that could print a ring.
func (o *openRing) String() string { return "ring " + o.file.Ring }

// key returns a version's key, nil when the ring has no such version.
func (o *openRing) key(id string) []byte {
	for _, v := range o.body.Versions {
		if v.ID == id && id != "" {
			return v.Key
		}
	}
	return nil
}

// freshRing makes the first version of a ring that does not exist yet.
func freshRing(now time.Time) *openRing {
	secrets := make([]byte, ringIDSize+fileKeySize+2*pepperSize)
	rand.Read(secrets)
	id, rest := secrets[:ringIDSize], secrets[ringIDSize:]
	return &openRing{
		file:    ringFile{V: 1, Ring: hex.EncodeToString(id)},
		fileKey: rest[:fileKeySize:fileKeySize],
		body: ringBody{
			Primary:  "p1",
			UIDKey:   rest[fileKeySize : fileKeySize+pepperSize : fileKeySize+pepperSize],
			Versions: []version{{ID: "p1", Key: rest[fileKeySize+pepperSize:], Created: now.UTC().Truncate(time.Second), State: StatePrimary}},
		},
	}
}

// clone copies what an update may change.
func (o *openRing) clone() *openRing {
	c := *o
	c.file.Stanzas = append([]stanza(nil), o.file.Stanzas...)
	c.body.Versions = append([]version(nil), o.body.Versions...)
	c.body.Banned = append([]string(nil), o.body.Banned...)
	return &c
}

// seal writes the ring's bytes for the store.
func (o *openRing) seal() ([]byte, error) {
	file, body := o.file, o.body
	if file.V = formatStates; body.plain() {
		file.V = formatPlain
		body.Versions = append([]version(nil), body.Versions...)
		for i := range body.Versions {
			body.Versions[i].State = ""
		}
	}
	plain, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("sealing ring: %w", err)
	}
	defer clear(plain)
	if file.Body, err = sealGCM(o.fileKey, plain, bodyContext(file)); err != nil {
		return nil, fmt.Errorf("sealing ring: %w", err)
	}
	raw, err := json.Marshal(file)
	if err != nil {
		return nil, fmt.Errorf("sealing ring: %w", err)
	}
	return raw, nil
}

// readRingFile reads the public part strictly; anything odd is a damaged ring, never a missing one.
func readRingFile(raw []byte) (ringFile, error) {
	var f ringFile
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(&f)
	switch {
	case err != nil:
		return f, fmt.Errorf("reading ring: %w", err)
	case f.V != formatPlain && f.V != formatStates:
		return f, fmt.Errorf("reading ring: version %d is not one this program knows", f.V)
	case !isRingID(f.Ring) || f.Epoch == 0 || len(f.Body) == 0 || dec.More():
		return f, errors.New("reading ring: identity, epoch or body is missing")
	}
	return f, nil
}

// openBody opens a ring whose file key is known.
func openBody(f ringFile, fileKey []byte) (*openRing, error) {
	sealed := f.Body
	f.Body = nil
	plain, err := openGCM(fileKey, sealed, bodyContext(f))
	if err != nil {
		return nil, errors.New("opening ring: the body does not open: it was changed, or belongs to another ring")
	}
	defer clear(plain)
	o := &openRing{file: f, fileKey: fileKey}
	return o, o.readBody(plain)
}

// readBody reads the secret part and takes nothing that is not whole: a missing key would be an HMAC under nothing.
func (o *openRing) readBody(plain []byte) error {
	if err := json.Unmarshal(plain, &o.body); err != nil {
		return errors.New("opening ring: the body is not readable") // the cause could quote a key
	}
	if err := o.settle(); err != nil {
		return err
	}
	if len(o.body.UIDKey) != pepperSize || o.body.Compat != "" && o.find(o.body.Compat) < 0 {
		return errors.New("opening ring: a version that the ring names is not in it")
	}
	return nil
}

// unwrap tries the stanzas for the given keys. It returns nil when none of them is a recipient.
func unwrap(f ringFile, keys []TLSKey, secret *RecoveryKey) []byte {
	for _, s := range f.Stanzas {
		if s.Type == stanzaRecovery && secret != nil {
			if fk, err := secret.open(f.Ring, s.CT); err == nil && len(fk) == fileKeySize {
				return fk
			}
		}
		for _, k := range keys {
			if s.Type == stanzaTLS && s.KID == k.kid {
				if fk, err := k.unwrap(f.Ring, s.CT); err == nil {
					return fk
				}
			}
		}
	}
	return nil
}

// addTLS wraps the file key for a TLS key, or moves the end of a stanza that it has (a renewal that kept its key).
// It reports whether something changed.
func (o *openRing) addTLS(k TLSKey) (bool, error) {
	end := k.notAfter.UTC().Truncate(time.Second)
	for i, s := range o.file.Stanzas {
		if s.Type == stanzaTLS && s.KID == k.kid {
			if !end.After(s.NotAfter) {
				return false, nil
			}
			o.file.Stanzas[i].NotAfter = end
			return true, nil
		}
	}
	ct, err := k.wrap(o.file.Ring, o.fileKey)
	if err != nil {
		return false, fmt.Errorf("wrapping ring: %w", err)
	}
	o.file.Stanzas = append(o.file.Stanzas, stanza{Type: stanzaTLS, KID: k.kid, NotAfter: end, CT: ct})
	return true, nil
}

// opensWith shows that what was read back opens for every key it must open for, with the file key we hold: a wrapping that
// went wrong is found while the old key is still there.
func opensWith(raw []byte, o *openRing, keys []TLSKey) error {
	f, err := readRingFile(raw)
	if err != nil {
		return err
	}
	for _, k := range keys {
		fk := unwrap(f, []TLSKey{k}, nil)
		if !sameKey(fk, o.fileKey) {
			return fmt.Errorf("reading ring back: TLS key %s does not open it", k.short())
		}
	}
	_, err = openBody(f, o.fileKey)
	return err
}

func bodyContext(f ringFile) []byte {
	header, _ := json.Marshal(f) // a struct of strings, numbers, times in UTC and bytes: it cannot fail
	return lp(lp(nil, labelBody), header)
}

func stanzaContext(ringID, kid string) []byte {
	return lp(lp(lp(nil, labelStanza), ringID), kid)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// Random nonces: a file key seals one body for each write, some thousands in a ring's life, far from 2^32.
	return cipher.NewGCMWithRandomNonce(block)
}

func sealGCM(key, plain, ad []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, nil, plain, ad), nil
}

func openGCM(key, sealed, ad []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nil, sealed, ad)
}

// stanzaNames lists for whom a ring is wrapped, for messages to the operator; the names are public.
func stanzaNames(f ringFile) string {
	var names []string
	for _, s := range f.Stanzas {
		names = append(names, s.Type+" "+shortID(s.KID))
	}
	return strings.Join(names, ", ")
}
