-- Verifies JSON Web Tokens (RFC 7519) inside nginx, with the libcrypto that nginx is linked to.
--
-- Made for speed: contexts are set up once and used again, the digest is OpenSSL's own one without a lookup for its
-- name, the signed part is hashed where it lies in the header, and the last good first part of a token is known
-- again. The caller's name goes to $user_id. 401 and 429 are answered here.

local ffi = require "ffi"
local base64 = require "ngx.base64"
local cjson = require "cjson.safe"
local new = require "table.new"

ffi.cdef [[
typedef struct { uint64_t words[32]; } gate_sha256;
int SHA256_Init(gate_sha256 *c);
int SHA256_Update(gate_sha256 *c, const void *data, size_t length);
int SHA256_Final(unsigned char *digest, gate_sha256 *c);
void *BIO_new_mem_buf(const void *data, int length);
int BIO_free(void *bio);
void *PEM_read_bio_PUBKEY(void *bio, void **key, void *callback, void *arg);
const void *EVP_sha256(void);
void *EVP_PKEY_CTX_new(void *key, void *engine);
int EVP_PKEY_verify_init(void *c);
int EVP_PKEY_CTX_set_rsa_padding(void *c, int padding);
int EVP_PKEY_CTX_set_signature_md(void *c, const void *digest);
int EVP_PKEY_verify(void *c, const unsigned char *signature, size_t length, const unsigned char *digest, size_t size);
void *HMAC_CTX_new(void);
int HMAC_Init_ex(void *c, const void *key, int length, const void *digest, void *engine);
int HMAC_Update(void *c, const unsigned char *data, size_t length);
int HMAC_Final(void *c, unsigned char *mac, unsigned int *length);
int CRYPTO_memcmp(const void *a, const void *b, size_t length);
void ERR_clear_error(void);
]]

local C = ffi.C
local byte, find, lower, sub = string.byte, string.find, string.lower, string.sub
local bytes = ffi.typeof "const unsigned char *"
local state = ffi.new "gate_sha256"
local digest = ffi.new "unsigned char[64]"
local der = ffi.new "unsigned char[80]"
local mac_length = ffi.new "unsigned int[1]"
local unauthorized, too_many = 401, 429

local M = {}
local issuer, audience, algorithm, right, limit, cache, passed
local good_head

-- Verified tokens, each with its caller and its end. Once `young` is full it is the old one, and what was old is gone;
-- a list in the order of use would cost more with tokens that never come again.
local young, old, count

-- The SHA-256 of `length` bytes of a string, from a given place on, in `digest`.
local function hash(text, at, length)
    C.SHA256_Init(state)
    C.SHA256_Update(state, ffi.cast(bytes, text) + at, length)
    C.SHA256_Final(digest, state)
end

local function public_key(pem)
    local bio = C.BIO_new_mem_buf(pem, #pem)
    local key = C.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
    C.BIO_free(bio)
    assert(key ~= nil, "not a public key")
    local context = C.EVP_PKEY_CTX_new(key, nil)
    assert(C.EVP_PKEY_verify_init(context) == 1)
    return context
end

local function verified(context, signature, length)
    if C.EVP_PKEY_verify(context, signature, length, digest, 32) == 1 then
        return true
    end
    C.ERR_clear_error()
    return false
end

-- Writes one integer of an ECDSA signature as DER; returns where the next byte goes.
local function integer(from, first, at)
    local skip = 0
    while skip < 31 and byte(from, first + skip) == 0 do
        skip = skip + 1
    end
    local pad = byte(from, first + skip) >= 0x80 and 1 or 0
    der[at], der[at + 1], der[at + 2] = 2, 32 - skip + pad, 0
    ffi.copy(der + at + 2 + pad, ffi.cast(bytes, from) + first - 1 + skip, 32 - skip)
    return at + 2 + pad + 32 - skip
end

-- For each algorithm a function that makes the check (text, at, length, signature) -> boolean from the key.
local makers = {}

function makers.HS256(secret)
    local context = C.HMAC_CTX_new()
    assert(C.HMAC_Init_ex(context, secret, #secret, C.EVP_sha256(), nil) == 1)
    return function(text, at, length, signature)
        if #signature ~= 32 then
            return false
        end
        C.HMAC_Init_ex(context, nil, 0, nil, nil)
        C.HMAC_Update(context, ffi.cast(bytes, text) + at, length)
        C.HMAC_Final(context, digest, mac_length)
        return C.CRYPTO_memcmp(digest, signature, 32) == 0
    end
end

function makers.RS256(pem)
    local context = public_key(pem)
    assert(C.EVP_PKEY_CTX_set_rsa_padding(context, 1) == 1)
    assert(C.EVP_PKEY_CTX_set_signature_md(context, C.EVP_sha256()) == 1)
    return function(text, at, length, signature)
        hash(text, at, length)
        return verified(context, signature, #signature)
    end
end

function makers.ES256(pem)
    local context = public_key(pem)
    return function(text, at, length, signature)
        if #signature ~= 64 then
            return false
        end
        hash(text, at, length)
        local size = integer(signature, 33, integer(signature, 1, 2))
        der[0], der[1] = 0x30, size - 2
        return verified(context, der, size)
    end
end

function M.setup(options)
    issuer, audience, algorithm = options.issuer, options.audience, options.algorithm
    right, limit = makers[algorithm](options.key), options.limit
    cache = options.cache
    young, old, count = new(0, cache), {}, 0
    passed = ngx.shared.passed
end

local function is_for_us(aud)
    if type(aud) ~= "table" then
        return aud == audience
    end
    for _, one in ipairs(aud) do
        if one == audience then
            return true
        end
    end
    return false
end

local function head_is_good(head)
    if head == good_head then
        return true
    end
    local text = base64.decode_base64url(head)
    local fields = text and cjson.decode(text)
    if type(fields) ~= "table" or fields.alg ~= algorithm or fields.crit then
        return false
    end
    good_head = head
    return true
end

-- A name with control characters could end the header field it is put into. (A pattern would not be compiled.)
local function is_printable(text)
    for i = 1, #text do
        if byte(text, i) < 32 then
            return false
        end
    end
    return true
end

-- The claims' caller and when they end, or nothing.
local function permitted(payload)
    local text = base64.decode_base64url(payload)
    local claims = text and cjson.decode(text)
    if type(claims) ~= "table" then
        return nil
    end
    local now, user = ngx.time(), claims.sub
    if type(claims.exp) ~= "number" or claims.exp <= now or claims.iss ~= issuer or not is_for_us(claims.aud) then
        return nil
    end
    if claims.nbf and not (type(claims.nbf) == "number" and claims.nbf <= now) then
        return nil
    end
    if type(user) ~= "string" or not is_printable(user) then
        return nil
    end
    return user, claims.exp
end

-- The caller whom the field `Authorization` proves, or nothing.
local function verify(field)
    if not field or lower(sub(field, 1, 7)) ~= "bearer " then
        return nil
    end
    local first = find(field, ".", 8, true)
    local second = first and find(field, ".", first + 1, true)
    if not second or not head_is_good(sub(field, 8, first - 1)) then
        return nil
    end
    local signature = base64.decode_base64url(sub(field, second + 1))
    if not signature or not right(field, 7, second - 8, signature) then
        return nil
    end
    return permitted(sub(field, first + 1, second - 1))
end

local function verify_once(field)
    local known = field and (young[field] or old[field])
    if known and known.ends > ngx.time() then
        return known.user
    end
    local user, ends = verify(field)
    if user then
        if count == cache then
            young, old, count = new(0, cache), young, 0
        end
        young[field], count = { user = user, ends = ends }, count + 1
    end
    return user
end

-- Lets a request with a good token pass.
function M.user()
    local user = (cache > 0 and verify_once or verify)(ngx.var.http_authorization)
    if not user then
        return ngx.exit(unauthorized)
    end
    ngx.var.user_id = user
    return user
end

-- The same, and counts the caller's requests of a minute.
function M.full()
    local user = M.user()
    if user and passed:incr(user, 1, 0, 60) > limit then
        return ngx.exit(too_many)
    end
end

return M
