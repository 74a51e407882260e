-- Asks Keyward about each request. HAProxy has nothing like nginx's auth_request; its Lua HTTP client does it. It is
-- loaded by haproxy.cfg beside this file, which also says what is done with the answer.

-- Where Keyward answers, in HAProxy's form of an address. Without a chroot "unix@/run/keyward/http.sock" works too.
local KEYWARD = "ipv4@127.0.0.1:7979"
local TIMEOUT_MS = 2000

-- What Keyward reads beside the request's line and address. The last three are read to be refused.
local ASKED = {
    "authorization", "cookie", "x-deskpro-agent-id",
    "x-http-method-override", "x-http-method", "x-method-override",
}
local IDENTITY = { "mode", "credential-id", "app-id", "agent-id", "agent-name" }

-- Every value that a header has, in order: a doubled one must arrive doubled, to be refused.
local function values(list)
    local found, index = {}, 0
    while list and list[index] do
        found[#found + 1] = list[index]
        index = index + 1
    end
    return found
end

local function first(headers, name)
    local list = headers and headers[name]
    return list and (list[0] or list[1]) or ""
end

core.register_action("keyward", { "http-req" }, function(txn)
    txn:set_var("txn.keyward_status", 503)
    txn:set_var("txn.keyward_reason", "unavailable")

    local came = txn.http:req_get_headers()
    local question = {
        ["host"] = { "keyward" },
        ["x-forwarded-method"] = { txn.sf:method() },
        -- The target as it came: one that is no plain path is refused by Keyward.
        ["x-forwarded-uri"] = { txn.sf:url() },
        ["x-forwarded-for"] = { txn.sf:src() },
    }
    for _, name in ipairs(ASKED) do
        if came[name] then question[name] = values(came[name]) end
    end
    local answer = core.httpclient():get({
        url = "http://keyward/auth/forward", dst = KEYWARD, headers = question, timeout = TIMEOUT_MS,
    })
    local status = tonumber(first(answer and answer.headers, "x-keyward-status"))
    -- Two signs of a yes, or it is none.
    if not status or answer.status ~= status then return end
    txn:set_var("txn.keyward_reason", first(answer.headers, "x-keyward-reason"))
    txn:set_var("txn.keyward_retry_after", first(answer.headers, "retry-after"))
    if status == 200 then
        for _, name in ipairs(IDENTITY) do
            txn.http:req_set_header("x-keyward-" .. name, first(answer.headers, "x-keyward-" .. name))
        end
    end
    txn:set_var("txn.keyward_status", status)
end)
