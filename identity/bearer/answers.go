package bearer

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

const (
	rememberGood = 30 * time.Second // a token that was taken back is out after this long
	rememberBad  = 5 * time.Second
	maxAnswers   = 4096 // of each kind
	maxAsked     = 64   // questions at one time
	maxDropScan  = 64   // entries looked at to make room for one
)

// answers remembers what an issuer said of tokens, by their SHA-256: the memory
// holds no token. Good and bad ones lie apart, so that made-up tokens push out no
// good ones.
type answers struct {
	issuer   *Issuer
	url      string // empty: as the metadata says
	clientID string
	secret   secret // of nothing: a client certificate is shown

	mu    sync.Mutex
	good  map[[sha256.Size]byte]answer
	bad   map[[sha256.Size]byte]answer
	asked map[[sha256.Size]byte]*question
}

// answer is facts or a refusal, and from when to when it holds.
type answer struct {
	facts     facts
	err       error
	at, until time.Time
}

// question is one that is open. Its answer is set before done is closed.
type question struct {
	answer
	done chan struct{}
}

func newAnswers(i *Issuer, c Introspection) *answers {
	return &answers{
		issuer: i, url: c.URL, clientID: c.ClientID, secret: secret{&c.ClientSecret},
		good:  map[[sha256.Size]byte]answer{},
		bad:   map[[sha256.Size]byte]answer{},
		asked: map[[sha256.Size]byte]*question{},
	}
}

// recall gives an answer that still holds. The caller holds mu.
func (a *answers) recall(name [sha256.Size]byte, now time.Time) (answer, bool) {
	for _, kept := range []map[[sha256.Size]byte]answer{a.good, a.bad} {
		if known, ok := kept[name]; ok && known.holds(now) {
			return known, true
		}
	}
	return answer{}, false
}

// holds is false before the answer was given, too: a clock was set back then.
func (a answer) holds(now time.Time) bool { return !now.Before(a.at) && now.Before(a.until) }

// remember keeps an answer, a good one never beyond the token's end. A failure of
// the issuer is not kept. The caller holds mu.
func (a *answers) remember(name [sha256.Size]byte, given answer, began time.Time) {
	if errors.Is(given.err, identity.ErrUnavailable) {
		return
	}
	given.at = began
	kept, other := a.good, a.bad
	given.until = began.Add(rememberGood)
	if given.err != nil {
		kept, other = a.bad, a.good
		given.until = began.Add(rememberBad)
	} else if given.facts.expires.Before(given.until) {
		given.until = given.facts.expires
	}
	delete(other, name)
	makeRoom(kept, began)
	kept[name] = given
}

// makeRoom drops what does not hold any more from among a few, or any one. A full
// scan for each made-up token would be a cost that strangers choose.
func makeRoom(kept map[[sha256.Size]byte]answer, now time.Time) {
	if len(kept) < maxAnswers {
		return
	}
	var victim [sha256.Size]byte
	seen := 0
	for name, known := range kept { // in no order
		if victim = name; !known.holds(now) {
			delete(kept, name)
		}
		if seen++; seen == maxDropScan {
			break
		}
	}
	if len(kept) >= maxAnswers {
		delete(kept, victim)
	}
}
