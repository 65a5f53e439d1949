package portal

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

const (
	// deviceCookie remembers, sealed, which accounts have signed in with this browser.
	//
	// It makes one fact of a later sign-in, "device known": the same account had
	// finished a sign-in here, an hour ago at least, and within 180 days. It is a fact
	// about a sign-in and no proof of a person: it opens nothing, stands for no factor,
	// and says nothing about other accounts. Whoever copies it into another browser has
	// made that browser a known one for these accounts until it runs out, and still has
	// to sign in as one of them; whoever can copy it can copy the session as well, which
	// needs no sign-in at all. A stranger who gets in once, from anywhere, has a known
	// browser an hour later: a rule with it makes theft slower and more visible, and no
	// more than that. What must only be opened at certain computers needs a network or a
	// client certificate.
	//
	// Signing out leaves it: it says what happened, and whoever comes next gains nothing
	// by it. It ends with 180 days without a sign-in of that account, with eight other
	// accounts after it, and with the browser's own "delete cookies". Applications never
	// see it (session.StripCookies) and cannot set it (session.IsOwnCookie). With one
	// portal for many sites it lives at the portal's host, where people sign in, and the
	// hand-off carries the fact to the sites.
	deviceCookie = "__Host-anteroom-device"

	deviceTTL = 180 * 24 * time.Hour // since the account's last sign-in
	deviceMax = 8                    // accounts; a shared workstation has several

	// deviceSince is how long ago the first sign-in must be: whoever has just got in
	// with a stolen password does not get further by signing in twice.
	deviceSince = time.Hour
)

// deviceAccount is an account that has signed in with a browser: a hash of who, and
// when first and last, in Unix seconds.
type deviceAccount struct {
	ID    []byte `json:"i"`
	First int64  `json:"f"`
	Last  int64  `json:"l"`
}

// deviceID names an account. A NUL stands between the parts, which no source's name
// and no issuer holds.
func deviceID(id identity.Identity) []byte {
	return labelled(labelDeviceID, id.Source+"\x00"+id.Issuer+"\x00"+id.Subject)[:16]
}

// deviceAccounts reads the cookie: the accounts that count still, the one that was here
// last in front. A cookie that stands twice, or that we did not make, names none.
func (p *Portal) deviceAccounts(r *http.Request) []deviceAccount {
	var text string
	n := 0
	for name, value := range cookies(r) {
		if name == deviceCookie {
			n, text = n+1, value
		}
	}
	if n != 1 || len(text) > maxCookie {
		return nil
	}
	var list []deviceAccount
	if err := p.openJSON(r.Context(), labelDevice, text, &list); err != nil {
		return nil
	}
	now := p.now()
	list = slices.DeleteFunc(list, func(a deviceAccount) bool {
		last := time.Unix(a.Last, 0)
		return now.Sub(last) >= deviceTTL || last.Sub(now) > attemptSkew || a.First > a.Last || a.First <= 0
	})
	return list[:min(len(list), deviceMax)]
}

func (a deviceAccount) is(id []byte) bool { return subtle.ConstantTimeCompare(a.ID, id) == 1 }

// knowsDevice says whether the account had signed in with this browser before. It is
// asked when somebody has proved who they are.
func (p *Portal) knowsDevice(r *http.Request, id identity.Identity) bool {
	who := deviceID(id)
	for _, a := range p.deviceAccounts(r) {
		if a.is(who) {
			return p.now().Sub(time.Unix(a.First, 0)) >= deviceSince
		}
	}
	return false
}

// rememberDevice notes a sign-in that is finished. It is no reason to fail: whoever
// comes without it comes with a browser that is not known.
func (p *Portal) rememberDevice(w http.ResponseWriter, r *http.Request, id identity.Identity) {
	now := p.now().Unix()
	me := deviceAccount{ID: deviceID(id), First: now, Last: now}
	list := p.deviceAccounts(r)
	if i := slices.IndexFunc(list, func(a deviceAccount) bool { return a.is(me.ID) }); i >= 0 {
		me.First = min(list[i].First, now)
		list = slices.Delete(list, i, i+1)
	}
	list = slices.Insert(list, 0, me)
	text, err := p.sealJSON(r.Context(), labelDevice, list[:min(len(list), deviceMax)])
	if err != nil {
		p.log.Warn("it is not remembered that an account has signed in with this browser", "error", err)
		return
	}
	http.SetCookie(w, ownCookie(deviceCookie, text, deviceTTL))
}
