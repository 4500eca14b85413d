-- Large bodies that no message needs any more: their references, a line each, go to a stream that a worker reads.

local unneeded = {}

-- Release the body of a message that is a duplicate, if it is a reference.
local function note_unneeded(header, body)
  if string.find(header, ' e=file', 1, true) then unneeded[#unneeded + 1] = body .. '\n' end
end

-- Write all references noted in this script, and others. A lone line break stands for none.
local function release_bodies(released, others)
  local references = table.concat(unneeded)
  if others ~= '\n' then references = others .. references end
  if references ~= '' then append(released, {'r', references}) end
end
