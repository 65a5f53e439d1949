package portal

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// attemptCookie begins the name of the cookie of one sign-in attempt. The
	// rest is a hash of the attempt's state, so that the callback finds its
	// cookie and two tabs do not disturb each other.
	attemptCookie = "__Host-anteroom-try-"

	// attemptTTL is how long a person may take at the provider.
	attemptTTL = 10 * time.Minute

	// attemptSkew is by how much another node's clock may be ahead of ours.
	attemptSkew = time.Minute

	// attemptMax and attemptBytes bound what a browser holds for us: these
	// cookies go with every request, and servers refuse long headers.
	attemptMax   = 5
	attemptBytes = 6 << 10

	// attemptDrops bounds the deletions in one answer. A browser that holds
	// more gets rid of the rest with the next answer.
	attemptDrops = 32

	// maxCookie is the size of name and value that every browser stores
	// (RFC 6265, section 6.1); larger ones vanish without a word.
	maxCookie = 4096
)

// attempt is one sign-in under way. It exists in the browser only, sealed:
// any node can finish it, and ten thousand starts cost us no memory. An
// attacker who could read or change one could choose where the person lands
// and finish the attempt in another browser.
type attempt struct {
	Source         string // the way to sign in that was begun (RFC 9700, section 4.4: mix-up)
	State          string // 32 random bytes, base64url (RFC 6749, section 10.12)
	Host           string // the site's host as the browser sent it, lower case
	ReturnTo       string
	Created        int64  // Unix seconds
	Keep           []byte // what the source needs at Finish: nonce, PKCE verifier
	Reauthenticate bool
	Ask            string        `json:",omitempty"` // of the site that waits for this sign-in, sealed as it came
	Need           identity.Need `json:",omitzero"`  // what the sign-in has to show
	Posted         bool          `json:",omitempty"` // the answer comes as a form, and in no other way

	move   bool      // the person agreed to move here; never sealed
	proved time.Time // when they had proved who they are, if not just now; never sealed
}

// Reasons of attempts that are not honoured, as they stand in the audit log.
const (
	reasonMissing    = "attempt.missing"
	reasonUnreadable = "attempt.unreadable"
	reasonExpired    = "attempt.expired"
	reasonSource     = "attempt.source"
	reasonHost       = "attempt.host"
	reasonUsed       = "attempt.used"
	reasonBefore     = "attempt.before-sign-out"
)

// errAttemptSize: the cookie of an attempt is larger than browsers keep.
var errAttemptSize = fmt.Errorf("cookie is larger than %d bytes", maxCookie)

// newState returns 256 random bits: nobody but the browser that began an
// attempt, and its provider, can name it.
func newState() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func labelled(label, state string) []byte {
	sum := sha256.Sum256([]byte(label + "\x00" + state))
	return sum[:]
}

// attemptName is the name of the cookie of the attempt with this state.
func attemptName(state string) string {
	return attemptCookie + base64.RawURLEncoding.EncodeToString(labelled(labelAttemptID, state)[:16])
}

// sealAttempt makes the cookie of an attempt. Its creation time stands before
// the sealed part in clear, for nothing but finding the oldest one.
func (p *Portal) sealAttempt(ctx context.Context, a attempt) (*http.Cookie, error) {
	sealed, err := p.sealJSON(ctx, labelAttempt, a)
	if err != nil {
		return nil, fmt.Errorf("sign-in attempt: %w", err)
	}
	value := strconv.FormatInt(a.Created, 36) + "." + sealed
	c := ownCookie(attemptName(a.State), value, attemptTTL)
	if n := len(c.Name) + len(c.Value); n > maxCookie {
		return nil, fmt.Errorf("sealing sign-in attempt: %d bytes: %w", n, errAttemptSize)
	}
	return c, nil
}

// openAttempt is the inverse of sealAttempt. It also checks that the sealed
// state is the one of the request.
func (p *Portal) openAttempt(ctx context.Context, value, state string) (attempt, error) {
	_, text, ok := strings.Cut(value, ".")
	if !ok {
		return attempt{}, errors.New("opening sign-in attempt: no separator")
	}
	var a attempt
	if err := p.openJSON(ctx, labelAttempt, text, &a); err != nil {
		return attempt{}, fmt.Errorf("opening sign-in attempt: %w", err)
	}
	// An empty state never equals an empty state (login CSRF by leaving both
	// sides out).
	if a.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) != 1 {
		return attempt{}, errors.New("opening sign-in attempt: another state")
	}
	return a, nil
}

// fits reports why an attempt must not be finished here and now, or "".
func (a attempt) fits(source, host string, now time.Time) string {
	created := time.Unix(a.Created, 0)
	switch {
	case now.Sub(created) >= attemptTTL, created.Sub(now) > attemptSkew:
		return reasonExpired
	case a.Source != source:
		return reasonSource // RFC 9700, section 4.4.2.2: one callback address per provider
	case a.Host != strings.ToLower(host):
		return reasonHost // __Host- cookies do not tell ports apart
	}
	return ""
}

// consume marks the attempt as used, for all nodes, before anything is done
// with it: of two callbacks with one state at most one reaches the provider.
// It returns store.ErrConflict when the attempt was used already.
func (p *Portal) consume(ctx context.Context, a attempt) error {
	key := labelConsumed + "/" + hex.EncodeToString(labelled(labelConsumed, a.State))
	expires := time.Unix(a.Created, 0).Add(attemptTTL + 2*attemptSkew)
	if err := p.store.CompareAndSwap(ctx, key, nil, []byte{1}, expires); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return err
		}
		return fmt.Errorf("recording the use of a sign-in attempt: %w", err)
	}
	return nil
}

// held is an attempt cookie that the browser sent.
type held struct {
	name, value string
	created     int64
	count       int // how often the name was sent
}

// heldAttempts lists the attempt cookies of a request, oldest first; those of
// no readable time, or one to come, count as the oldest. Names that
// attemptName cannot have made are left alone.
func heldAttempts(r *http.Request, now time.Time) []held {
	byName := make(map[string]*held)
	for name, value := range cookies(r) {
		id, ok := strings.CutPrefix(name, attemptCookie)
		if !ok || len(id) != 22 || !isToken(id) {
			continue
		}
		if h := byName[name]; h != nil {
			h.count++
			continue
		}
		text, _, _ := strings.Cut(value, ".")
		created, err := strconv.ParseInt(text, 36, 64)
		if err != nil || created > now.Add(attemptSkew).Unix() {
			created = 0
		}
		byName[name] = &held{name: name, value: value, created: created, count: 1}
	}
	list := make([]held, 0, len(byName))
	for _, h := range byName {
		list = append(list, *h)
	}
	slices.SortFunc(list, func(a, b held) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.name, b.name))
	})
	return list
}

// surplus names the cookies that make room for one more of the given size:
// those past their time, then the oldest.
func surplus(list []held, size int, now time.Time) []string {
	var drop []string
	total := size
	for _, h := range list {
		total += len(h.name) + len(h.value)
	}
	left := len(list)
	for _, h := range list {
		old := now.Sub(time.Unix(h.created, 0)) >= attemptTTL
		if !old && left < attemptMax && total <= attemptBytes || len(drop) == attemptDrops {
			break
		}
		drop = append(drop, h.name)
		left--
		total -= len(h.name) + len(h.value)
	}
	return drop
}
