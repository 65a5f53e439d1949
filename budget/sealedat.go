package budget

import "strings"

// SealedAt says under which label the value at a store key of this package is sealed, for whoever seals all of them anew under
// another key. ok is false for keys of others. Everything that this package stores is sealed under its key.
func SealedAt(key string) (label string, ok bool) {
	if strings.HasPrefix(key, labelRecord+"/") {
		return key, true
	}
	return "", false
}
