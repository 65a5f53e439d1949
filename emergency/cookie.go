package emergency

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxCookie is what browsers keep of one cookie, its name included (RFC 6265, section 6.1): larger ones are dropped
// silently.
const maxCookie = 4096

// ticket is one grant as the cookie has it. The cookie is sealed under a label that binds session and site, so that neither
// needs to stand in it.
type ticket struct {
	ID      string `json:"i"`
	Rule    string `json:"r"`
	Route   string `json:"o,omitempty"`
	Scope   string `json:"s"`
	Patient string `json:"p,omitempty"`
	Begun   int64  `json:"b"` // seconds
	Until   int64  `json:"u"`
	Drill   bool   `json:"d,omitempty"`
}

func (t ticket) active() Active {
	return Active{t.ID, t.Rule, t.Route, t.Scope, t.Patient, time.Unix(t.Begun, 0), time.Unix(t.Until, 0), t.Drill}
}

// holder is the session and the site that a cookie is for.
type holder struct{ sid, site string }

func (h holder) label() string { return hashKey(labelCookie, h.sid, h.site) }

// holderOf is none without a session or a site.
func holderOf(sid, site string) (holder, bool) {
	site = siteName(site)
	return holder{sid, site}, sid != "" && site != ""
}

// siteName is the host in lower case, without the port that https has anyway: browsers write it only sometimes. Another port
// is another site.
func siteName(host string) string {
	return strings.TrimSuffix(strings.ToLower(host), ":443")
}

// sealCookie makes the cookie's value of the newest grants that fit, the oldest first. The last one must fit.
func (l *Ledger) sealCookie(ctx context.Context, h holder, tickets []ticket) (string, error) {
	if n := len(tickets) - MaxGrants; n > 0 {
		tickets = tickets[n:]
	}
	for ; len(tickets) > 0; tickets = tickets[1:] {
		plain, err := encode(tickets)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		sealed, err := l.sealer.Seal(ctx, h.label(), plain)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		value := base64.RawURLEncoding.EncodeToString(sealed)
		if len(CookieName)+1+len(value) <= maxCookie {
			return value, nil
		}
	}
	return "", fmt.Errorf("%w: path and rule are too long for a cookie", errGrant)
}

// openCookie opens what a browser sent. Whatever is wrong with it, it holds nothing.
func (l *Ledger) openCookie(ctx context.Context, h holder, value string) []ticket {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil
	}
	plain, err := l.sealer.Open(ctx, h.label(), sealed)
	if err != nil {
		return nil
	}
	var tickets []ticket
	if json.Unmarshal(plain, &tickets) != nil || len(tickets) > MaxGrants {
		return nil
	}
	return tickets
}

// setCookie is the line that sets a value until the last grant ends; no grants clear it.
func setCookie(value string, tickets []ticket, now time.Time) *http.Cookie {
	var last int64
	for _, t := range tickets {
		last = max(last, t.Until)
	}
	life := last - now.Unix()
	if value == "" || life <= 0 {
		return clearCookie()
	}
	c := cookie(value)
	c.MaxAge = int(life)
	return c
}

// cookieIn finds our cookie in the Cookie lines of a request, without allocating. It splits as session does: at semicolons,
// quotes mean nothing. A name that stands there twice, or with something odd around it, is none: somebody who can plant a
// cookie would otherwise choose.
func cookieIn(lines []string) (value string, ok bool) {
	for _, line := range lines {
		for more := strings.Contains(line, CookieName); more; {
			var part string
			part, line, more = strings.Cut(line, ";")
			name, v, assigned := strings.Cut(part, "=")
			name = strings.TrimLeft(name, " \t")
			if strings.TrimFunc(name, odd) != CookieName {
				continue
			}
			if ok || !assigned || name != CookieName || v == "" || len(v) > maxCookie {
				return "", false
			}
			value, ok = v, true
		}
	}
	return value, ok
}

func odd(r rune) bool { return r <= ' ' || r == 0x7f }

// opened is a cookie that was opened before.
type opened struct {
	holder holder
	active []Active
}

// lookUp opens a cookie, once for many requests. What does not open is not remembered: it would push out what does.
func (l *Ledger) lookUp(ctx context.Context, h holder, value string) []Active {
	key := sha256.Sum256([]byte(value))
	if o, ok := l.cookies.get(key); ok && o.holder == h {
		return o.active
	}
	tickets := l.openCookie(ctx, h, value)
	if len(tickets) == 0 {
		return nil
	}
	active := make([]Active, len(tickets))
	for i, t := range tickets {
		active[i] = t.active()
	}
	l.cookies.put(key, opened{h, active})
	return active
}

// Active returns the grants that hold for this session (its sid) and site: the host as the request has it. cookies are the
// request's Cookie lines. What it returns is shared: do not change it.
func (l *Ledger) Active(ctx context.Context, cookies []string, sid, site string, now time.Time) []Active {
	value, found := cookieIn(cookies)
	if !found || !l.ready() {
		return nil
	}
	h, ok := holderOf(sid, site)
	if !ok {
		return nil
	}
	all := l.lookUp(ctx, h, value)
	for i := range all {
		if l.holds(ctx, &all[i], now) {
			continue
		}
		var some []Active
		for k := range all {
			if k < i || k > i && l.holds(ctx, &all[k], now) {
				some = append(some, all[k])
			}
		}
		return some
	}
	return all
}

// ahead is how far the clock of the node that gave a grant may be before ours: one of the future does not hold, so that a clock that is
// set back makes no grant longer.
const ahead = time.Minute

// holds judges a grant whose seal was good.
func (l *Ledger) holds(ctx context.Context, a *Active, now time.Time) bool {
	return now.Before(a.Until) && !now.Before(a.Begun.Add(-ahead)) && !a.Until.After(a.Begun.Add(MaxLife)) && l.stands(ctx, a.ID, now)
}

// tickets are the grants of a request that are not known to be over, for the next cookie. The store is not asked: what it
// does not say now is asked when they are used.
func (l *Ledger) tickets(ctx context.Context, cookies []string, h holder, now time.Time) (all []ticket) {
	value, _ := cookieIn(cookies)
	for _, a := range l.lookUp(ctx, h, value) {
		if s, _ := l.standings.get(a.ID); !s.over && now.Before(a.Until) {
			all = append(all, ticket{a.ID, a.Rule, a.Route, a.Scope, a.Patient, a.Begun.Unix(), a.Until.Unix(), a.Drill})
		}
	}
	return all
}

var errNoStore = errors.New("no store")
