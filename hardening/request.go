package hardening

import "fmt"

// What one request may hold. The numbers bound memory and, with the slow hash at some 20 ms each, time.
const (
	maxBody   = 4 << 20 // bytes
	maxBatch  = 4096    // items, lines or records
	maxItems  = 64      // of them with the slow step: 1.3 s of one core
	maxUID    = 255     // bytes
	maxSource = 255     // bytes
	maxSecret = 4096    // bytes; a longer one is not a password but a way to make us work
)

// Item is one secret to protect.
type Item struct {
	// UID is the account that the record will be bound to, 1 to 255 bytes; one that the application never gives to anybody else.
	UID string
	// Secret is what the person typed, 1 to 4096 bytes, taken as it is: bring it to one Unicode form before.
	Secret string
	// Context is what the secret is for ("portal-pin"): up to 64 of [A-Za-z0-9._:/@+-]; empty for none.
	Context string
	// Fast leaves the slow hash out. It is right for what is no password any more: the application's own argon2id or bcrypt
	// output, of which this makes a record without asking anybody. For a password it is wrong: whoever gets database and
	// pepper then guesses millions a second.
	Fast bool
}

// Verification is one secret to compare with a record. Three records stand for an account that does not exist: they cost the
// time of one that does and never match, so that time does not tell which accounts exist. "-" stands for a record with the slow
// step, "-none" for one without, "-set" for a set of 4096.
type Verification struct {
	Item   // without Fast, which the record knows
	Record string
	// Source is where the secret came from, as the application sees it: the address of the person's browser, or the name of a
	// device. Failures slow down their own source; one that succeeded in the last 30 days is not stopped by those of others.
	Source string
}

// raw is an item as it stands in a request.
type raw struct {
	uid, secret, context []byte
	fast                 bool
	bad                  string // why it is none, in a batch that goes on without it
}

// SetItem is a set of secrets for one account of which any is accepted: the strings of a gesture, drawn a little differently
// each time.
type SetItem struct {
	UID, Context string
	// Set are 1 to 4096 secrets. They get no slow hash: 4096 would take 86 s.
	Set []string
	// Pad is how many entries the record shows, whatever the set has; 0 means 4096. All sets of an application should have one
	// Pad: the number tells otherwise how the gesture was drawn.
	Pad int
}

// rawSet is a set as it stands in a request.
type rawSet struct {
	uid, context []byte
	entries      [][]byte
	pad          int
}

func (i Item) raw() raw {
	return raw{uid: []byte(i.UID), secret: []byte(i.Secret), context: []byte(i.Context), fast: i.Fast}
}

func (i *raw) check() error {
	if err := checkAbout(i.uid, i.context); err != nil {
		return err
	}
	return checkSecret(i.secret)
}

func checkSecret(secret []byte) error {
	if len(secret) == 0 || len(secret) > maxSecret {
		return fmt.Errorf("checking secret: %w: it has not 1 to %d bytes", ErrInput, maxSecret)
	}
	return nil
}

func checkAbout(uid, context []byte) error {
	switch {
	case len(uid) == 0 || len(uid) > maxUID:
		return fmt.Errorf("checking uid: %w: it has not 1 to %d bytes", ErrInput, maxUID)
	case len(context) > 0 && !isContext(context):
		return fmt.Errorf("checking context: %w: it is not 1 to %d characters of letters, digits and . _ : / @ + -", ErrInput, maxContext)
	}
	return nil
}

func (s *rawSet) check() error {
	if err := checkAbout(s.uid, s.context); err != nil {
		return err
	}
	switch {
	case len(s.entries) == 0:
		return fmt.Errorf("checking set: %w: nothing is in it", ErrInput)
	case s.pad < 1 || s.pad > maxSet || s.pad < len(s.entries):
		return fmt.Errorf("checking set: %w: pad is not a number from the set's own to %d", ErrInput, maxSet)
	}
	for _, e := range s.entries {
		if err := checkSecret(e); err != nil {
			return err
		}
	}
	return nil
}

// protectRequest is {"items":[…]} or one set.
type protectRequest struct {
	items []raw
	set   *rawSet
}

// parseProtect reads {"items":[{"uid","secret","context"?,"slow"?}]} or {"uid","set":["…"],"context"?,"pad"?}. The result
// lives in body, which is changed.
// The items go into list.
func parseProtect(body []byte, list *[]raw) (protectRequest, error) {
	s, err := newScanner(body)
	if err != nil {
		return protectRequest{}, err
	}
	var uid, context []byte // and these make up a set
	var entries [][]byte
	pad := maxSet
	seen, err := s.object(protectNames, func(name int) error {
		switch protectNames[name] {
		case "items":
			return s.items(list)
		case "set":
			return s.strings("set", &entries)
		case "pad":
			return s.number("pad", &pad)
		case "uid":
			return s.string("uid", &uid)
		}
		return s.string("context", &context)
	})
	if err == nil {
		err = s.end()
	}
	switch {
	case err != nil:
		return protectRequest{}, err
	case seen == 1: // "items" alone
		return protectRequest{items: *list}, nil
	case seen&1 != 0:
		return protectRequest{}, fmt.Errorf("reading request: %w: beside \"items\" nothing else stands", ErrInput)
	case seen&(1<<1) == 0:
		return protectRequest{}, fmt.Errorf("reading request: %w: \"items\" or \"set\" is missing", ErrInput)
	}
	set := &rawSet{uid, context, entries, pad}
	return protectRequest{set: set}, set.check()
}

var (
	protectNames = []string{"items", "set", "uid", "context", "pad"}
	itemNames    = []string{"uid", "secret", "context", "slow"}
	verifyNames  = []string{"uid", "secret", "context", "record", "source"}
	upgradeNames = []string{"records"}
	censusNames  = []string{"records", "census", "done"}
)

func (s *scanner) items(list *[]raw) error {
	slow := 0
	err := s.list("items", func() error {
		if len(*list) == maxBatch {
			return fmt.Errorf("reading request: %w: more than %d items", errTooLarge, maxBatch)
		}
		item, err := s.item()
		if err == nil && !item.fast {
			slow++
		}
		switch {
		case err != nil:
			return fmt.Errorf("item %d: %w", len(*list), err)
		case slow > maxItems:
			return fmt.Errorf("reading request: %w: more than %d items with the slow step", errTooLarge, maxItems)
		}
		*list = append(*list, item)
		return nil
	})
	if err == nil && len(*list) == 0 {
		err = fmt.Errorf("reading request: %w: \"items\" is not a list with something in it", ErrInput)
	}
	return err
}

func (s *scanner) item() (item raw, err error) {
	slow := true
	seen, err := s.object(itemNames, func(name int) error {
		switch name {
		case 0:
			return s.string("uid", &item.uid)
		case 1:
			return s.string("secret", &item.secret)
		case 2:
			return s.string("context", &item.context)
		}
		return s.boolean("slow", &slow)
	})
	item.fast = !slow
	if err == nil {
		err = needs(seen, itemNames[:2])
	}
	if err == nil {
		err = item.check()
	}
	return item, err
}

// rawVerification is a verification as it stands in a request.
type rawVerification struct {
	raw
	record, source []byte
}

func (v *rawVerification) check() error {
	if len(v.source) > maxSource {
		return fmt.Errorf("checking source: %w: it has more than %d bytes", ErrInput, maxSource)
	}
	return v.raw.check()
}

// parseVerify reads {"uid","secret","context"?,"record","source"?}. The result lives in body, which is changed.
func parseVerify(body []byte) (v rawVerification, err error) {
	s, err := newScanner(body)
	if err != nil {
		return v, err
	}
	fields := []*[]byte{&v.uid, &v.secret, &v.context, &v.record, &v.source}
	seen, err := s.object(verifyNames, func(name int) error { return s.string(verifyNames[name], fields[name]) })
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = needs(seen, []string{"uid", "secret", "", "record"})
	}
	if err == nil {
		err = v.check()
	}
	return v, err
}

// recordsRequest is that of upgrade and census.
type recordsRequest struct {
	records [][]byte
	census  string
	done    bool
}

// parseRecords reads {"records":["…"]}, and with census also "census" and "done". The result lives in body, which is changed.
func parseRecords(body []byte, names []string) (req recordsRequest, err error) {
	s, err := newScanner(body)
	if err != nil {
		return req, err
	}
	seen, err := s.object(names, func(name int) error {
		switch name {
		case 0:
			return s.strings("records", &req.records)
		case 1:
			var id []byte
			err := s.string("census", &id)
			req.census = string(id)
			return err
		}
		return s.boolean("done", &req.done)
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = needs(seen, upgradeNames)
	}
	return req, err
}

// parseEmpty wants {}.
func parseEmpty(body []byte) error {
	s, err := newScanner(body)
	if err != nil {
		return err
	}
	if _, err := s.object(nil, nil); err != nil {
		return err
	}
	return s.end()
}

// needs wants the named members among those that were seen.
func needs(seen uint, names []string) error {
	for i, name := range names {
		if name != "" && seen&(1<<i) == 0 {
			return fmt.Errorf("reading request: %w: %q is missing", ErrInput, name)
		}
	}
	return nil
}
