package session

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

// jwk is a public key (RFC 7517, RFC 8037 section 2).
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Kid   string `json:"kid"`
	Use   string `json:"use"`
	Alg   string `json:"alg"`
}

// JWKS returns the public keys as a JWK set (RFC 7517), for jwks.json: those of
// sessions and those of assertions, and of both also the ones that are yet to
// sign, so that whoever keeps a copy has them in time. Before Start the set is
// empty. A token is told by its typ, never by its key alone.
func (m *Manager) JWKS() []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, p := range purposes {
		if r := m.ringOf(p).Load(); r != nil {
			for _, k := range r.keys {
				set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", base64.RawURLEncoding.EncodeToString(k.public), k.kid, "sig", "EdDSA"})
			}
		}
	}
	encoded, err := json.Marshal(set)
	if err != nil {
		return []byte(`{"keys":[]}`) // strings always encode
	}
	return encoded
}

// What a key is doing, for [KeyInfo].
const (
	KeyNext    = "next"    // published, signs from Signs on
	KeySigning = "signing" // signs
	KeyRetired = "retired" // verifies until Until
)

// KeyInfo describes a key. It holds nothing secret.
type KeyInfo struct {
	KID     string    `json:"kid"`   // RFC 7638
	Use     string    `json:"use"`   // "session" or "assertion"
	State   string    `json:"state"` // KeyNext, KeySigning or KeyRetired
	Created time.Time `json:"created,omitzero"`
	Signs   time.Time `json:"signs,omitzero"`
	Until   time.Time `json:"until,omitzero"` // zero: not known yet
}

// Keys lists the keys that this node accepts at this moment, session keys first,
// of each use the oldest first. It is empty before Start.
func (m *Manager) Keys() []KeyInfo {
	var infos []KeyInfo
	now := m.now()
	for _, p := range purposes {
		r := m.ringOf(p).Load()
		if r == nil {
			continue
		}
		signer := r.signer(now)
		for _, k := range r.keys {
			info := KeyInfo{
				KID: k.kid, Use: p.use, State: KeyRetired,
				Created: unixTime(k.created), Signs: unixTime(k.signs), Until: unixTime(k.until),
			}
			switch {
			case k == signer:
				info.State = KeySigning
			case k.signs > now.Unix():
				info.State = KeyNext
			}
			infos = append(infos, info)
		}
	}
	return infos
}

// Made lists those of the keys that this process made itself. Any other one came out of the store: another node
// made it, or whoever can write there and has what seals it.
func (m *Manager) Made() (kids []string) {
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	for _, p := range purposes {
		if r := m.ringOf(p).Load(); r != nil {
			for _, k := range r.keys {
				if _, made := m.keys.made[k.kid]; made {
					kids = append(kids, k.kid)
				}
			}
		}
	}
	return kids
}

func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
